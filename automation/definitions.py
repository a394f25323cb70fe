"""The way in: a SQLMesh environment as Dagster definitions.

Reads top to bottom as a tick does: manifest, assets with their conditions, the sensor.
"""

from __future__ import annotations

from functools import cached_property, partial

import dagster as dg

from ..assets.definitions.policy import policies
from ..assets.definitions.specs import Blueprint
from ..assets.definitions.translator import SQLMeshTranslator
from ..assets.execution.early import EarlyPlaces
from ..assets.execution.executor import sqlmesh_executor
from ..assets.execution.run_side import Observer
from ..assets.execution.shared import shared_execution_resource
from ..assets.factory import build_assets, execution_key
from ..assets.project.earlier import usable_manifest
from ..assets.worker.places import place_for
from ..config.rules import Isolation
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
    executor: dg.ExecutorDefinition | None = sqlmesh_executor,
) -> dg.Definitions:
    """Returns the Dagster definitions of one SQLMesh environment.

    ``dg.Definitions.merge(ours, build_definitions())`` adds them to a code location.

    Args:
        settings: The environment and how it is automated; read from variables if ``None``.
        translator: Says how models look as assets.
        executor: Runs the steps of the whole code location. The default runs models in one
            process, since their steps wait for one execution, and other runs as Dagster does by
            default. Pass ``None`` if the definitions that these are merged with bring an
            executor: Dagster refuses two, and theirs runs models as well.

    Returns:
        One asset for each model, their checks, the automation sensor, and SQLMesh's janitor.

    Raises:
        ConfigurationError: A setting or the project cannot be used.
        Unavailable: The project has to be loaded and its database cannot be opened.
    """
    location = Location(settings or AutomationSettings(), translator, executor=executor)
    return location.definitions


class Location:
    """A SQLMesh environment as definitions, and the parts of them that the CLI uses.

    Attributes:
        settings: The environment and how it is automated.
        manifest: The project's facts.
        policies: The rules by which each model is automated, by ``fqn``.
        index: Maps models to their assets, checks and ops.
        planner: Makes each tick's plan.
        sensor: The automation sensor.
    """

    def __init__(
        self,
        settings: AutomationSettings,
        translator: SQLMeshTranslator | None = None,
        observer: Observer | None = None,
        executor: dg.ExecutorDefinition | None = sqlmesh_executor,
    ) -> None:
        translator = translator or SQLMeshTranslator()
        self.settings = settings
        self.manifest = usable_manifest(settings)
        self.policies = policies(settings, self.manifest)
        blueprint = Blueprint(self.manifest, settings, translator, self.policies)
        self.index = blueprint.index
        self._places = EarlyPlaces(partial(place_for, self._isolation(observer), self._engines))
        if executor is sqlmesh_executor:
            self._places.start(self.index)
        self.planner = Planner(settings, self.manifest, self.index, self.policies)
        self.sensor = SqlmeshAutomationSensor(settings, self.planner, self.manifest.gateway)
        self._blueprint, self._observer, self._executor = blueprint, observer, executor

    @cached_property
    def definitions(self) -> dg.Definitions:
        """All of these for Dagster; made when asked for, as not every command needs them."""
        settings, observer = self.settings, self._observer
        assets = build_assets(
            self._blueprint,
            lambda model: sqlmesh_due(self.planner, model, self.policies[model.fqn]),
        )
        places = self._places
        janitor_job, janitor_schedule = janitor(settings)
        jobs = [janitor_job, restate_job(settings, places), plan_preview_job(settings, places)]
        return dg.Definitions(
            assets=assets,
            asset_checks=[drift_checks(settings, self.manifest, self.index)],
            resources={
                execution_key(settings): shared_execution_resource(
                    settings, self.index, places, observer
                )
            },
            sensors=[self.sensor],
            jobs=jobs,
            schedules=[janitor_schedule],
            executor=self._executor,
        )

    @property
    def _engines(self) -> set[str]:
        return {self.manifest.engine, self.manifest.state_engine}

    def _isolation(self, observer: Observer | None) -> Isolation:
        if self.settings.isolation is Isolation.AUTO and observer is not None:
            return Isolation.THREAD  # a command, whose SQLMesh is imported already
        return self.settings.isolation
