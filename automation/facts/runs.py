"""What Dagster's runs say of models: which are being evaluated, and whose last run failed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property

import dagster as dg

from ...assets.dagster_internals import (
    FINISHED_STATUSES,
    AssetCheckEvaluationPlanned,
    AssetCheckExecutionRecord,
    AssetCheckExecutionRecordStatus,
    AssetMaterializationPlannedData,
    AssetRecord,
)
from ...assets.definitions.specs import AssetIndex
from ...assets.ledger.ledger import read_history
from ...assets.ledger.outcome import FAILURES, Outcome, OutcomeStatus
from ...assets.ledger.run_tags import execution_time
from ...config.errors import RunTagInvalid
from .attempts import counts
from .facts import Attempt, Node

IN_PROGRESS = tuple(status for status in dg.DagsterRunStatus if status not in FINISHED_STATUSES)
"""Statuses of a run that may still evaluate something: all but the finished ones."""

_MANY = 100_000
_PAGE = 50
_MOST_PAGES = 20
_MOST_KEPT = 100

UNSUCCESSFUL = (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)


@dataclass
class RunReader:
    """Reads an instance's runs, tick after tick.

    Attributes:
        index: Which asset or check stands for which model.
    """

    index: AssetIndex
    _unusable: list[str] = field(default_factory=list, init=False)
    _outcomes: dict[str, dict[str, Outcome]] = field(default_factory=dict, init=False)

    def take_unusable(self) -> tuple[str, ...]:
        """Takes what could not be used since the last call, each line once."""
        lines = tuple(dict.fromkeys(self._unusable))
        self._unusable.clear()
        return lines

    def in_progress(self, instance: dg.DagsterInstance) -> dict[str, str]:
        """The run in progress that covers a model, by ``fqn``; launched by whomever."""
        covered: dict[str, str] = {}
        for run in instance.get_runs(dg.RunsFilter(statuses=list(IN_PROGRESS))):
            for fqn in self._covered(instance, run):
                covered[fqn] = run.run_id
        return covered

    def attempts(
        self,
        instance: dg.DagsterInstance,
        nodes: Sequence[Node],
        planned_at: datetime | None,
    ) -> dict[str, list[Attempt]]:
        """The last runs of each model that ended without evaluating it, newest first.

        Args:
            instance: Where the runs are recorded.
            nodes: The models to look at; those that are due.
            planned_at: When the environment was planned; what was before does not count.
        """
        node_of = {node.fqn: node for node in nodes}
        last = self._last_runs(instance, list(node_of))
        runs = records_of(instance, set(last.values()))
        rows: dict[str, list[Attempt]] = {}
        for fqn, run_id in last.items():
            if (record := runs.get(run_id)) and (attempt := self._attempt(instance, fqn, record)):
                rows[fqn] = [attempt]
        # Those that may have failed before: the rest of the row.
        open_rows = {
            fqn: node_of[fqn]
            for fqn, (attempt,) in rows.items()
            if counts(node_of[fqn], planned_at, attempt, attempt)
        }
        for record in self._unsuccessful(instance):
            if not open_rows:
                break
            for fqn in self._covered(instance, record.dagster_run) & open_rows.keys():
                row, started = rows[fqn], _started(record)
                if started >= row[-1].started:
                    continue
                earlier = self._attempt(instance, fqn, record)
                node = open_rows[fqn]
                if earlier is None or not counts(node, planned_at, row[0], earlier):
                    del open_rows[fqn]
                    continue
                row.append(earlier)
                if sum(each.tried for each in row) >= node.policy.retry.max_attempts:
                    del open_rows[fqn]
        return rows

    def requested_at(
        self, instance: dg.DagsterInstance, models: Sequence[str]
    ) -> dict[str, datetime]:
        """When each model was last in a run, as far as it was; simulated where the run was."""
        last = {
            fqn: record.asset_entry.last_run_id
            for fqn, record in self._assets(instance, models).items()
            if record.asset_entry.last_run_id
        }
        last |= {fqn: execution.run_id for fqn, execution in self._checks(instance, models).items()}
        runs = records_of(instance, set(last.values()))
        return {fqn: moment_of(runs[run_id]) for fqn, run_id in last.items() if run_id in runs}

    def evaluated_at(
        self, instance: dg.DagsterInstance, models: Sequence[str]
    ) -> dict[str, datetime]:
        """When the run began that last evaluated a model; simulated where the run was.

        Of one that was reported without a run, when it was reported.
        """
        materializations = {
            fqn: record.asset_entry.last_materialization
            for fqn, record in self._assets(instance, models).items()
        }
        ids = {event.run_id for event in materializations.values() if event and event.run_id}
        runs = records_of(instance, ids)
        return {
            fqn: moment_of(runs[event.run_id]) if event.run_id in runs else _written(event)
            for fqn, event in materializations.items()
            if event is not None
        }

    def _assets(
        self, instance: dg.DagsterInstance, models: Sequence[str]
    ) -> dict[str, AssetRecord]:
        by_key = {self.index.keys[fqn]: fqn for fqn in models if fqn in self.index.keys}
        records = instance.get_asset_records(list(by_key)) if by_key else ()
        return {by_key[record.asset_entry.asset_key]: record for record in records}

    def _checks(
        self, instance: dg.DagsterInstance, models: Sequence[str]
    ) -> dict[str, AssetCheckExecutionRecord]:
        """The last execution of each standalone audit."""
        checks = {self.index.checks[fqn][0]: fqn for fqn in models if self.index.checks.get(fqn)}
        if not checks:
            return {}
        storage = instance.event_log_storage
        try:
            executions = storage.get_latest_asset_check_execution_by_key(list(checks))
        except NotImplementedError:
            line = "what became of standalone audits is not known: Dagster's storage has no history"
            self._unusable.append(line)
            return {}
        # The storage filters assets and names apart from each other, and so gives pairs that
        # nobody asked for: of audits x on a and y on b also x on b.
        return {checks[key]: last for key, last in executions.items() if key in checks}

    def _last_runs(self, instance: dg.DagsterInstance, models: Sequence[str]) -> dict[str, str]:
        """The last run that was to evaluate each model, where it did not."""
        run_ids: dict[str, str] = {}
        for fqn, record in self._assets(instance, models).items():
            entry = record.asset_entry
            materialization = entry.last_materialization
            # A materialization in that run or, reported without one, after it.
            if entry.last_run_id and (
                materialization is None or materialization.run_id != entry.last_run_id
            ):
                run_ids[fqn] = entry.last_run_id
        for fqn, execution in self._checks(instance, models).items():
            if execution.status is AssetCheckExecutionRecordStatus.PLANNED:
                run_ids[fqn] = execution.run_id
        return run_ids

    def _attempt(
        self, instance: dg.DagsterInstance, model: str, record: dg.RunRecord
    ) -> Attempt | None:
        run = record.dagster_run
        if run.status not in UNSUCCESSFUL:
            return None
        outcome = self._read(instance, run.run_id).get(model)
        cancelled = run.status is dg.DagsterRunStatus.CANCELED
        tried = retried = True
        if outcome is None and cancelled:
            why, retried = "cancelled", False
        elif outcome is None or outcome.unreachable:
            why, tried = "not evaluated", False
        elif outcome.status in FAILURES:
            why = outcome.status.value.replace("_", " ")
        elif outcome.status is OutcomeStatus.CANCELLED:
            why, retried = "cancelled", False
        else:
            # Skipped: what failed is upstream, and holds it as long as it is held itself.
            return None
        ended = datetime.fromtimestamp(record.end_time, tz=UTC) if record.end_time else None
        try:
            simulated = execution_time(run.tags, run.run_id)
        except RunTagInvalid as error:
            simulated = None
            self._unusable.append(f"{error}; here the tag is left out")
        return Attempt(
            run_id=run.run_id,
            at=simulated or _started(record),
            started=_started(record),
            ended=simulated or ended or _started(record),
            why=why,
            tried=tried,
            retried=retried,
        )

    def _unsuccessful(self, instance: dg.DagsterInstance) -> Iterator[dg.RunRecord]:
        """The runs that failed or were cancelled, newest first."""
        cursor = None
        for _ in range(_MOST_PAGES):
            page = instance.get_run_records(
                dg.RunsFilter(statuses=list(UNSUCCESSFUL)), limit=_PAGE, cursor=cursor
            )
            yield from page
            if len(page) < _PAGE:
                return
            cursor = page[-1].dagster_run.run_id

    def _covered(self, instance: dg.DagsterInstance, run: dg.DagsterRun) -> Set[str]:
        """``fqn`` of what a run is to evaluate."""
        selected = {*(run.asset_selection or ()), *(run.asset_check_selection or ())}
        keys = selected or _planned(instance, run.run_id)
        return {fqn for key in keys if (fqn := self._by_key.get(key))}

    @cached_property
    def _by_key(self) -> dict[dg.AssetKey | dg.AssetCheckKey, str]:
        return {
            **{key: fqn for fqn, key in self.index.keys.items()},
            **{key: fqn for fqn, keys in self.index.checks.items() for key in keys},
        }

    def _read(self, instance: dg.DagsterInstance, run_id: str) -> dict[str, Outcome]:
        """The outcomes of a run that has ended, read once."""
        if run_id not in self._outcomes:
            if len(self._outcomes) >= _MOST_KEPT:
                self._outcomes.clear()
            history = read_history(instance, run_id, self.index.scope)
            self._outcomes[run_id] = dict(history.outcomes)
            self._unusable += [f"run {run_id}: {entry} is left out" for entry in history.unusable]
        return self._outcomes[run_id]


def moment_of(record: dg.RunRecord) -> datetime:
    """The moment for which a run is done: its start, but for simulated ones."""
    run = record.dagster_run
    try:
        return execution_time(run.tags, run.run_id) or _started(record)
    except RunTagInvalid:
        # Named where the run counts as an attempt, and by the run itself, which fails with it.
        return _started(record)


def _written(event: dg.EventLogEntry) -> datetime:
    return datetime.fromtimestamp(event.timestamp, tz=UTC)


def _started(record: dg.RunRecord) -> datetime:
    started = record.start_time or record.create_timestamp.timestamp()
    return datetime.fromtimestamp(started, tz=UTC)


def records_of(instance: dg.DagsterInstance, run_ids: set[str]) -> dict[str, dg.RunRecord]:
    """The records of some runs, by id."""
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
