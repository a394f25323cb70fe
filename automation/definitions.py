"""The way in: a SQLMesh environment as Dagster definitions.

Reads top to bottom as a tick does: manifest, assets with their conditions, the sensor.
"""

from __future__ import annotations

import dagster as dg

from ..assets.definitions.policy import policies
from ..assets.definitions.specs import Blueprint
from ..assets.definitions.translator import SQLMeshTranslator
from ..assets.execution.round import Observer
from ..assets.execution.shared import shared_execution_resource
from ..assets.factory import build_assets, execution_key
from ..assets.project.deployed import current_manifest
from ..config.settings import AutomationSettings
from .janitor import janitor
from .jobs import plan_preview_job, restate_job
from .tick.conditions import sqlmesh_due
from .tick.planner import Planner
from .tick.sensor import SqlmeshAutomationSensor
from .upkeep.drift import drift_checks


def build_definitions(
    settings: AutomationSettings | None = None,
    *,
    translator: SQLMeshTranslator | None = None,
    executor: dg.ExecutorDefinition | None = dg.in_process_executor,
) -> dg.Definitions:
    """Dagster definitions of one SQLMesh environment.

    To add them to a code location: ``dg.Definitions.merge(ours, build_definitions())``.

    Args:
        settings: Read from the environment when not given.
        translator: How models look as assets.
        executor: What runs the steps. They wait for one execution, so that a process for each
            only adds its start. ``None`` where definitions that these are merged with bring one:
            Dagster refuses two.

    Returns:
        One asset for each model, their checks, the automation sensor, and SQLMesh's janitor.

    Raises:
        ConfigurationError: A setting or the project cannot be used.
        Unavailable: The project has to be loaded and its database cannot be opened.
    """
    location = Location(settings or AutomationSettings(), translator, executor=executor)
    return location.definitions


class Location:
    """A SQLMesh environment as definitions, with the parts that the CLI needs by hand.

    Attributes:
        manifest: The project's facts.
        policies: How each model is automated, by ``fqn``.
        index: Which asset, check or op stands for which model.
        planner: Makes each tick's plan.
        sensor: The automation sensor.
        definitions: All of it for Dagster.
    """

    def __init__(
        self,
        settings: AutomationSettings,
        translator: SQLMeshTranslator | None = None,
        observer: Observer | None = None,
        executor: dg.ExecutorDefinition | None = dg.in_process_executor,
    ) -> None:
        translator = translator or SQLMeshTranslator()
        self.settings = settings
        self.manifest = current_manifest(settings)
        self.policies = policies(settings, self.manifest)
        blueprint = Blueprint(self.manifest, settings, translator, self.policies)
        self.index = blueprint.index
        self.planner = Planner(settings, self.manifest, self.index, self.policies)
        assets = build_assets(
            blueprint, lambda model: sqlmesh_due(self.planner, model, self.policies[model.fqn])
        )
        self.sensor = SqlmeshAutomationSensor(settings, self.planner, self.manifest.gateway)
        janitor_job, janitor_schedule = janitor(settings)
        jobs = [janitor_job, restate_job(settings), plan_preview_job(settings)]
        self.definitions = dg.Definitions(
            assets=assets,
            asset_checks=[drift_checks(settings, self.manifest, self.index)],
            resources={
                execution_key(settings): shared_execution_resource(settings, self.index, observer)
            },
            sensors=[self.sensor],
            jobs=jobs,
            schedules=[janitor_schedule],
            executor=executor,
        )
