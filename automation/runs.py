"""What Dagster's runs say of models: which are being evaluated, and whose last run failed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationPlanned,
)
from dagster._core.events import AssetMaterializationPlannedData
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.storage.dagster_run import RunRecord

from ..assets.ledger import read_history
from ..assets.outcome import FAILURES, Outcome, OutcomeStatus
from ..assets.round import EXECUTION_TIME_TAG
from ..assets.specs import ENVIRONMENT_TAG, AssetIndex
from .decisions import Attempt

IN_PROGRESS = (
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
)
"""Statuses of a run that may still evaluate something."""

_MANY = 100_000
_LONGEST_ROW = 10
_MOST_KEPT = 100

_UNSUCCESSFUL = (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)


@dataclass
class RunReader:
    """Reads an instance's runs, tick after tick.

    Attributes:
        index: Which asset or check stands for which model.
    """

    index: AssetIndex
    _outcomes: dict[str, dict[str, Outcome]] = field(default_factory=dict, init=False)

    def in_progress(self, instance: dg.DagsterInstance) -> dict[str, str]:
        """The run in progress that covers a model, by ``fqn``; launched by whomever."""
        by_key: dict[dg.AssetKey | dg.AssetCheckKey, str] = {
            **{key: fqn for fqn, key in self.index.keys.items()},
            **{key: fqn for fqn, keys in self.index.checks.items() for key in keys},
        }
        covered: dict[str, str] = {}
        for run in instance.get_runs(dg.RunsFilter(statuses=list(IN_PROGRESS))):
            selected = {*(run.asset_selection or ()), *(run.asset_check_selection or ())}
            for key in selected or _planned(instance, run.run_id):
                if fqn := by_key.get(key):
                    covered[fqn] = run.run_id
        return covered

    def failures(self, instance: dg.DagsterInstance, models: Sequence[str]) -> dict[str, Attempt]:
        """The last run of each model, where it ended without evaluating it.

        Args:
            instance: Where the runs are recorded.
            models: ``fqn`` of the models to look at; those that are due.
        """
        last = self._last_runs(instance, models)
        runs = _records(instance, set(last.values()))
        return {
            model: attempt
            for model, run_id in last.items()
            if run_id in runs and (attempt := self._attempt(instance, model, runs[run_id]))
        }

    def _last_runs(self, instance: dg.DagsterInstance, models: Sequence[str]) -> dict[str, str]:
        """The last run that was to evaluate each model, where it did not."""
        by_key = {self.index.keys[fqn]: fqn for fqn in models if fqn in self.index.keys}
        found: dict[str, str] = {}
        for record in instance.get_asset_records(list(by_key)):
            entry = record.asset_entry
            made = entry.last_materialization
            # A materialization in that run or, reported without one, after it.
            if entry.last_run_id and (made is None or made.run_id != entry.last_run_id):
                found[by_key[entry.asset_key]] = entry.last_run_id
        checks = {self.index.checks[fqn][0]: fqn for fqn in models if self.index.checks.get(fqn)}
        executions = instance.event_log_storage.get_latest_asset_check_execution_by_key(
            list(checks)
        )
        for key, execution in executions.items():
            if execution.status is AssetCheckExecutionRecordStatus.PLANNED:
                found[checks[key]] = execution.run_id
        return found

    def _attempt(
        self, instance: dg.DagsterInstance, model: str, record: RunRecord
    ) -> Attempt | None:
        run = record.dagster_run
        if run.status not in _UNSUCCESSFUL:
            return None
        outcome = self._read(instance, run.run_id).get(model)
        unevaluated = 0
        if outcome is None and run.status is dg.DagsterRunStatus.CANCELED:
            why = "cancelled"
        elif outcome is None or outcome.unreachable:
            why, unevaluated = "not evaluated", self._unevaluated(instance, model, record)
        elif outcome.status in FAILURES:
            why = outcome.status.value.replace("_", " ")
        elif outcome.status is OutcomeStatus.CANCELLED:
            why = "cancelled"
        else:
            # Skipped: what failed is upstream, and holds it as long as it is held itself.
            return None
        started = _started(record)
        at = run.tags.get(EXECUTION_TIME_TAG)
        moment = datetime.fromisoformat(at) if at else started
        return Attempt(run.run_id, moment, started, why, unevaluated)

    def _unevaluated(self, instance: dg.DagsterInstance, model: str, last: RunRecord) -> int:
        """How many of the environment's runs up to one ended in a row without trying a model."""
        environment = last.dagster_run.tags.get(ENVIRONMENT_TAG)
        if environment is None:
            return 1
        earlier = instance.get_runs(
            dg.RunsFilter(
                tags={ENVIRONMENT_TAG: environment}, created_before=last.create_timestamp
            ),
            limit=_LONGEST_ROW,
        )
        keys = {self.index.keys.get(model), *self.index.checks.get(model, ())}
        count = 1
        for run in earlier:
            if keys.isdisjoint({*(run.asset_selection or ()), *(run.asset_check_selection or ())}):
                continue
            outcome = self._read(instance, run.run_id).get(model)
            tried = outcome is not None and not outcome.unreachable
            if run.status is not dg.DagsterRunStatus.FAILURE or tried:
                break
            count += 1
        return count

    def _read(self, instance: dg.DagsterInstance, run_id: str) -> dict[str, Outcome]:
        """The outcomes of a run that has ended, read once."""
        if run_id not in self._outcomes:
            if len(self._outcomes) >= _MOST_KEPT:
                self._outcomes.clear()
            self._outcomes[run_id] = dict(read_history(instance, run_id).outcomes)
        return self._outcomes[run_id]


def _started(record: RunRecord) -> datetime:
    started = record.start_time or record.create_timestamp.timestamp()
    return datetime.fromtimestamp(started, tz=UTC)


def _records(instance: dg.DagsterInstance, run_ids: set[str]) -> dict[str, RunRecord]:
    if not run_ids:
        return {}
    records = instance.get_run_records(dg.RunsFilter(run_ids=list(run_ids)))
    return {record.dagster_run.run_id: record for record in records}


def _planned(instance: dg.DagsterInstance, run_id: str) -> Iterator[dg.AssetKey | dg.AssetCheckKey]:
    """What a run of a whole job is to materialize and check."""
    events = instance.get_records_for_run(
        run_id,
        of_type={
            dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED,
            dg.DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED,
        },
        limit=_MANY,
    )
    for record in events.records:
        event = record.event_log_entry.dagster_event
        data = event.event_specific_data if event else None
        if isinstance(data, AssetMaterializationPlannedData):
            yield data.asset_key
        elif isinstance(data, AssetCheckEvaluationPlanned):
            yield data.asset_check_key
