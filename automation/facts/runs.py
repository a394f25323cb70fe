"""What Dagster's runs say of models: which are being evaluated, and how the last ones ended."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import dagster as dg

from ...assets.dagster_internals import (
    FINISHED_STATUSES,
    AssetCheckExecutionRecord,
    AssetRecord,
)
from ...assets.definitions.specs import AssetIndex
from ...assets.ledger.ledger import read_history
from ...assets.ledger.outcome import Outcome
from ...assets.ledger.run_tags import execution_time
from ...config.errors import RunTagInvalid
from .attempts import EndedRun, attempt_of, is_timely, may_count
from .coverage import Coverage, records_of
from .facts import Attempt, DueState, Node
from .moments import moment_of, started

IN_PROGRESS = tuple(status for status in dg.DagsterRunStatus if status not in FINISHED_STATUSES)
"""Statuses of a run that may still evaluate something: all but the finished ones."""

_PAGE = 50
_MOST_PAGES = 20
_MOST_KEPT = 100


@dataclass(frozen=True, slots=True)
class _Latest:
    """What Dagster shows last of a model or standalone audit.

    Attributes:
        run_id: The run that planned or reported it; ``None`` if it was reported without one.
        report: The storage id of the report, and of a check before it has one; ``None`` if the run
            has reported nothing.
    """

    run_id: str | None
    report: int | None


@dataclass
class RunReader:
    """Reads an instance's runs, tick after tick.

    Attributes:
        index: Which asset or check stands for which model.
    """

    index: AssetIndex
    _coverage: Coverage = field(init=False)
    _unusable: list[str] = field(default_factory=list, init=False)
    _outcomes: dict[str, dict[str, Outcome]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self._coverage = Coverage(self.index)

    def take_unusable(self) -> tuple[str, ...]:
        """Takes what could not be used since the last call, each line once."""
        lines = tuple(dict.fromkeys(self._unusable))
        self._unusable.clear()
        return lines

    def in_progress(self, instance: dg.DagsterInstance) -> dict[str, str]:
        """The run in progress that covers a model, by ``fqn``; launched by whomever."""
        covered: dict[str, str] = {}
        for run in instance.get_runs(dg.RunsFilter(statuses=list(IN_PROGRESS))):
            for fqn in self._coverage.of(instance, run):
                covered[fqn] = run.run_id
        return covered

    def attempts(
        self, instance: dg.DagsterInstance, nodes: Sequence[Node], state: DueState
    ) -> dict[str, list[Attempt]]:
        """Returns the last runs of each model that may count against what is due, newest first.

        Which of them do, :func:`.row_of` says.

        Args:
            instance: The instance that records the runs.
            nodes: The models to look at; those that are due.
            state: What SQLMesh holds due.
        """
        rows = self._newest(instance, nodes, state)
        # What came before the newest: the rest of the row.
        open_rows = {node.fqn: node for node in nodes if node.fqn in rows}
        if not open_rows:
            return rows
        for record in self._ended(instance, _earliest(open_rows, rows, state)):
            for fqn in self._coverage.of(instance, record.dagster_run) & open_rows.keys():
                row, node = rows[fqn], open_rows[fqn]
                if started(record) >= row[-1].started:
                    continue
                earlier = self._attempt(instance, node, state, record)
                if earlier is None or not may_count(node, state, row[0], earlier):
                    del open_rows[fqn]
                    continue
                row.append(earlier)
                if sum(attempt.tried for attempt in row) >= node.policy.retry.max_attempts:
                    del open_rows[fqn]
            if not open_rows:
                break
        return rows

    def _newest(
        self, instance: dg.DagsterInstance, nodes: Sequence[Node], state: DueState
    ) -> dict[str, list[Attempt]]:
        """Returns the last run of each model, if it has ended and may count."""
        last = self._last_runs(instance, [node.fqn for node in nodes])
        return {
            node.fqn: [attempt]
            for node in nodes
            if (record := last.get(node.fqn))
            and (attempt := self._attempt(instance, node, state, record))
        }

    def requested_at(
        self, instance: dg.DagsterInstance, models: Sequence[str]
    ) -> dict[str, datetime]:
        """When each model was last in a run, as far as it was; simulated where the run was."""
        last = self._last_runs(instance, models)
        return {fqn: moment_of(record) for fqn, record in last.items()}

    def ended_at(
        self, instance: dg.DagsterInstance, models: Sequence[str], planned_at: datetime | None
    ) -> dict[str, datetime]:
        """Returns when the last run of each model ended, if it has; simulated where the run was.

        Args:
            instance: The instance that records the runs.
            models: ``fqn`` of the models to look at.
            planned_at: When the plan was applied; what started before does not count.
        """
        return {
            fqn: moment_of(record, record.end_time)
            for fqn, record in self._last_runs(instance, models).items()
            if record.dagster_run.status in FINISHED_STATUSES
            and (planned_at is None or started(record) >= planned_at)
        }

    def started_at(
        self, instance: dg.DagsterInstance, run_ids: Iterable[str]
    ) -> dict[str, datetime]:
        """Returns when runs started, or were made if they have not; simulated where they are."""
        records = records_of(instance, set(run_ids))
        return {run_id: moment_of(record) for run_id, record in records.items()}

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
        evaluated = self.index.evaluated
        by_key = {evaluated[fqn]: fqn for fqn in models if fqn in evaluated}
        records = instance.get_asset_records(list(by_key)) if by_key else ()
        return {by_key[record.asset_entry.asset_key]: record for record in records}

    def _checks(
        self, instance: dg.DagsterInstance, models: Sequence[str]
    ) -> dict[str, AssetCheckExecutionRecord]:
        """The last execution of each standalone audit, and of an external model's first audit."""
        checks = {self.index.checks[fqn][0]: fqn for fqn in models if self.index.checks.get(fqn)}
        if not checks:
            return {}
        storage = instance.event_log_storage
        try:
            executions = storage.get_latest_asset_check_execution_by_key(list(checks))
        except NotImplementedError:
            self._unusable.append(
                "what became of standalone audits and external models is not known: "
                "Dagster's storage has no history"
            )
            return {}
        # The storage filters assets and names apart from each other, and so gives pairs that
        # nobody asked for: of audits x on a and y on b also x on b.
        return {checks[key]: last for key, last in executions.items() if key in checks}

    def _last_runs(
        self, instance: dg.DagsterInstance, models: Sequence[str]
    ) -> dict[str, dg.RunRecord]:
        """Returns the last run that was to evaluate each model, as far as there was one."""
        latest = self._latest(instance, models)
        records = records_of(instance, {last.run_id for last in latest.values() if last.run_id})
        runs: dict[str, dg.RunRecord] = {}
        strange: dict[str, int] = {}
        for fqn, last in latest.items():
            record = records.get(last.run_id) if last.run_id else None
            if record is None:
                if last.report is not None and last.run_id is None:
                    strange[fqn] = last.report
            elif last.report is None or fqn in self._coverage.of(instance, record.dagster_run):
                runs[fqn] = record
            else:
                strange[fqn] = last.report
        # Reported by no run, or by one that was not to evaluate it: Dagster forgets the run before.
        return runs | self._coverage.behind(instance, strange)

    def _latest(self, instance: dg.DagsterInstance, models: Sequence[str]) -> dict[str, _Latest]:
        """Returns what Dagster shows last of each model and standalone audit."""
        latest: dict[str, _Latest] = {}
        for fqn, record in self._assets(instance, models).items():
            entry = record.asset_entry
            run_id, materialization = entry.last_run_id or None, entry.last_materialization
            reported = materialization is not None and run_id in (None, materialization.run_id)
            report = entry.last_materialization_storage_id if reported else None
            latest[fqn] = _Latest(run_id, report)
        for fqn, execution in self._checks(instance, models).items():
            # Also of what is only planned: a person's run may audit and not evaluate it.
            latest[fqn] = _Latest(execution.run_id or None, execution.id)
        return latest

    def _attempt(
        self, instance: dg.DagsterInstance, node: Node, state: DueState, record: dg.RunRecord
    ) -> Attempt | None:
        """What a run was for a model; ``None`` if it goes on, or is too old to count."""
        run = record.dagster_run
        if run.status not in FINISHED_STATUSES:
            return None
        ended = datetime.fromtimestamp(record.end_time, tz=UTC) if record.end_time else None
        try:
            simulated = execution_time(run.tags, run.run_id)
        except RunTagInvalid as error:
            simulated = None
            self._unusable.append(f"{error}; here the tag is left out")
        began = started(record)
        if not is_timely(node, state, simulated or began, began):
            return None
        return attempt_of(
            EndedRun(
                run_id=run.run_id,
                at=simulated or began,
                started=began,
                ended=simulated or ended or began,
                cancelled=run.status is dg.DagsterRunStatus.CANCELED,
            ),
            self._read(instance, run.run_id).get(node.fqn),
        )

    def _ended(
        self, instance: dg.DagsterInstance, after: datetime | None
    ) -> Iterator[dg.RunRecord]:
        """The runs that have ended after a moment, whatever the end, newest first."""
        ended = dg.RunsFilter(statuses=list(FINISHED_STATUSES), updated_after=after)
        cursor = None
        for _ in range(_MOST_PAGES):
            page = instance.get_run_records(ended, limit=_PAGE, cursor=cursor)
            yield from page
            if len(page) < _PAGE:
                return
            cursor = page[-1].dagster_run.run_id

    def _read(self, instance: dg.DagsterInstance, run_id: str) -> dict[str, Outcome]:
        """The outcomes of a run that has ended, read once."""
        if run_id not in self._outcomes:
            if len(self._outcomes) >= _MOST_KEPT:
                self._outcomes.clear()
            history = read_history(instance, run_id, self.index.scope)
            self._outcomes[run_id] = dict(history.outcomes)
            self._unusable += [f"run {run_id}: {entry} is left out" for entry in history.unusable]
        return self._outcomes[run_id]


def _earliest(
    nodes: Mapping[str, Node], rows: Mapping[str, Sequence[Attempt]], state: DueState
) -> datetime | None:
    """Before when no run counts for any of some models; ``None`` if that is not known."""
    moments = []
    for fqn in nodes:
        since, newest = state.due[fqn].since, rows[fqn][0]
        # The clock on the wall says nothing of when a simulated run counts.
        if since is None or newest.at != newest.started:
            return state.planned_at
        moments.append(since if state.planned_at is None else max(since, state.planned_at))
    return min(moments)


def _written(event: dg.EventLogEntry) -> datetime:
    return datetime.fromtimestamp(event.timestamp, tz=UTC)
