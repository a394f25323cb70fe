"""Ticks and runs in this process, with the facts that tests ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import dagster as dg

from dagster_sqlmesh_automation.assets.ledger.ledger import read_history
from dagster_sqlmesh_automation.assets.ledger.outcome import Outcome
from dagster_sqlmesh_automation.assets.naming import ENVIRONMENT_CHECK as CHECK
from dagster_sqlmesh_automation.automation.definitions import Location
from dagster_sqlmesh_automation.automation.tick.plan import TickPlan
from dagster_sqlmesh_automation.config.settings import AutomationSettings


@dataclass
class Tick:
    """One tick as the daemon would see it."""

    plan: TickPlan
    run_requests: Sequence[dg.RunRequest]
    skip_message: str | None
    evaluations: Sequence[Any]

    @property
    def requested(self) -> set[str]:
        """Asset keys that the tick asks for."""
        return {
            key.to_user_string()
            for request in self.run_requests
            for key in request.asset_selection or ()
        }


@dataclass
class Run:
    """One run and what Dagster's event log says of it."""

    instance: dg.DagsterInstance
    run_id: str
    success: bool
    outcomes: Mapping[str, Outcome]

    def by_name(self) -> dict[str, Outcome]:
        """Outcomes by the model's name."""
        return {outcome.name: outcome for outcome in self.outcomes.values()}

    def events(self, kind: dg.DagsterEventType) -> list[Any]:
        """The run's events of one type."""
        return [
            record.event_log_entry.dagster_event
            for record in self.instance.get_records_for_run(self.run_id, of_type=kind).records
        ]

    def steps(self, kind: dg.DagsterEventType) -> set[str]:
        """Keys of the steps that have an event of one type."""
        return {event.step_key for event in self.events(kind)}

    def materialized(self) -> dict[str, dg.AssetMaterialization]:
        """The run's own materializations by asset key."""
        return {
            event.asset_key.to_user_string(): event.step_materialization_data.materialization
            for event in self.events(dg.DagsterEventType.ASSET_MATERIALIZATION)
        }

    def checks(self) -> dict[tuple[str, str], Any]:
        """Check evaluations by asset key and name, but for those of drift."""
        return {of: check for of, check in self._evaluations().items() if of[1] != CHECK}

    def drift(self) -> dict[str, Any]:
        """Evaluations of the check of drift, by asset key."""
        return {key: check for (key, name), check in self._evaluations().items() if name == CHECK}

    def _evaluations(self) -> dict[tuple[str, str], Any]:
        evaluations = (
            event.asset_check_evaluation_data
            for event in self.events(dg.DagsterEventType.ASSET_CHECK_EVALUATION)
        )
        return {
            (check.asset_key.to_user_string(), check.check_name): check for check in evaluations
        }

    def failure(self, step: str) -> Any:
        """A step's failure."""
        (event,) = (
            event
            for event in self.events(dg.DagsterEventType.STEP_FAILURE)
            if event.step_key == step
        )
        return event.step_failure_data

    def log(self) -> list[str]:
        """Messages of the run's log."""
        return [entry.user_message or "" for entry in self.instance.all_logs(self.run_id)]


@dataclass
class Automation:
    """A code location and a Dagster instance, ticked and run by hand."""

    project: Path | Sequence[Path]
    instance: dg.DagsterInstance
    location: Location
    cursor: str | None = field(default=None)

    @classmethod
    def of(
        cls, project: Path | Sequence[Path], instance: dg.DagsterInstance, **settings: Any
    ) -> Automation:
        location = Location(AutomationSettings(project=project, **settings))
        return cls(project, instance, location)

    @property
    def repository(self) -> dg.RepositoryDefinition:
        return self.location.definitions.get_repository_def()

    def tick(self, at: datetime) -> Tick:
        """What the sensor decides at a moment; nothing is run."""
        plan = self.location.planner.plan(self.instance, at)
        with dg.build_sensor_context(
            instance=self.instance, repository_def=self.repository, cursor=self.cursor
        ) as context:
            data = self.location.sensor.request(context, plan, simulated=True)
        self.cursor = data.cursor
        return Tick(
            plan,
            list(data.run_requests or ()),
            data.skip_message,
            list(data.automation_condition_evaluations),
        )

    def run(
        self, assets: Sequence[str], at: datetime, checks: Sequence[dg.AssetCheckKey] | None = None
    ) -> Run:
        """Runs some assets as of a moment, as a person would from the UI.

        Where no checks are given, with all but those of drift, as a tick would.
        """
        selection = {dg.AssetKey(asset.split("/")) for asset in assets}
        return self.execute(selection, {"sqlmesh/execution_time": at.isoformat()}, checks)

    def execute(
        self,
        selection: set[dg.AssetKey],
        tags: Mapping[str, str],
        checks: Sequence[dg.AssetCheckKey] | None = None,
    ) -> Run:
        if checks is None:
            graph = self.repository.asset_graph
            checks = [
                key for key in graph.get_check_keys_for_assets(selection) if key.name != CHECK
            ]
        job = self.location.definitions.resolve_implicit_global_asset_job_def().get_subset(
            asset_selection=selection, asset_check_selection=set(checks)
        )
        result = job.execute_in_process(
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            instance=self.instance,
            raise_on_error=False,
            tags=dict(tags),
        )
        outcomes = read_history(self.instance, result.run_id, self.location.index.scope).outcomes
        return Run(self.instance, result.run_id, result.success, outcomes)

    def tick_and_run(self, at: datetime) -> tuple[Tick, Run | None]:
        """A whole tick, its run included."""
        tick = self.tick(at)
        if not tick.run_requests:
            return tick, None
        (request,) = tick.run_requests
        run = self.execute(
            set(request.asset_selection or ()), request.tags, request.asset_check_keys
        )
        return tick, run
