"""Ticks report here what ``sqlmesh run``, a plan or a restatement evaluated outside Dagster."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime
from math import ceil

import dagster as dg

from ...assets.definitions.specs import AssetIndex
from ...assets.execution.report import EVALUATED_AT, outcome_metadata, report_version
from ...assets.intervals import Interval, Record, contiguous, moment
from ...assets.ledger.outcome import Outcome, OutcomeStatus
from ..facts.facts import DueState, Node
from ..facts.runs import RunReader
from .recovery import Recovery

_BUDGET_SECONDS = 10.0
"""One tick reports for this long at most: Dagster gives the whole tick a minute."""

_CLOCK_SKEW_SECONDS = 3600.0
"""How far the clock of the process that evaluated may be ahead of the one that reported."""

_MOST_LINES = 20
_LOOK_BACK = 20

Since = Callable[[Mapping[str, int]], Mapping[str, Sequence[Interval]]]
"""Returns the intervals that SQLMesh has recorded of models since moments in its milliseconds."""

Recorded = Callable[[str], tuple[str, Record] | None]
"""Returns a model's snapshot and all that SQLMesh has recorded of it."""


class OutsideEvaluations:
    """Finds what was evaluated outside Dagster, and reports each evaluation once.

    SQLMesh keeps when a model's table was last written. If that is newer than the asset's last
    materialization, and no run of ours did it, then the table was written outside Dagster.

    Args:
        index: Tells which asset stands for which model.
        nodes: The models, in topological order.
        runs: Reads the instance's runs.
        recovery: Knows what runs evaluated that could not report it.
        budget_seconds: How long one call reports at most, in seconds.
    """

    def __init__(
        self,
        index: AssetIndex,
        nodes: Sequence[Node],
        runs: RunReader,
        recovery: Recovery,
        budget_seconds: float = _BUDGET_SECONDS,
    ) -> None:
        self._index, self._runs, self._recovery = index, runs, recovery
        self._budget = budget_seconds
        self._models = {node.fqn: node for node in nodes if node.is_evaluated}
        self._settled: dict[str, int] = {}

    def report(
        self, instance: dg.DagsterInstance, state: DueState, recorded: Recorded, since: Since
    ) -> Iterator[str]:
        """Reports them as runless materializations.

        Call it after :meth:`.Recovery.report`, which reports what runs left behind that died.

        Args:
            instance: Records the materializations.
            state: What SQLMesh's state holds.
            recorded: Tells what it holds of a model.
            since: Tells what it holds since a moment.

        Yields:
            A line for each model, at most twenty, and how many are left for the next call.
        """
        # Upstream first: what is materialized before something that it reads looks out of step.
        changed = [
            fqn
            for fqn in self._models
            if fqn in state.altered and self._settled.get(fqn) != state.altered[fqn]
        ]
        if not changed or state.planned_at is None:
            return
        # A run in progress reports what it evaluates, and unselected models upstream, too.
        busy = self._upstream(self._runs.in_progress(instance))
        changed = [fqn for fqn in changed if fqn not in busy]
        reported = self._reported_until(instance, changed)
        news = {fqn: reported[fqn] for fqn in changed if state.altered[fqn] > reported[fqn]}
        self._settled |= {fqn: state.altered[fqn] for fqn in changed if fqn not in news}
        if news:
            yield from self._report(instance, state, news, recorded, since)

    def _report(
        self,
        instance: dg.DagsterInstance,
        state: DueState,
        news: Mapping[str, int],
        recorded: Recorded,
        since: Since,
    ) -> Iterator[str]:
        later = {fqn: until for fqn, until in news.items() if until}
        intervals = since(later) if later else {}
        deadline = time.monotonic() + self._budget
        for number, fqn in enumerate(news):
            if time.monotonic() > deadline:
                yield f"{len(news) - number} more were evaluated outside Dagster; next ticks tell"
                return
            altered = state.altered[fqn]
            held = recorded(fqn)
            # Somebody else may have reported it meanwhile, as another tick may.
            if held is not None and self._last_reported(instance, fqn) < altered:
                snapshot, record = held
                outcome = Outcome(
                    model=fqn,
                    name=self._models[fqn].name,
                    status=OutcomeStatus.EXECUTED,
                    intervals=contiguous(intervals.get(fqn) or record.ranges),
                    snapshot=snapshot,
                    hashes=state.hashes.get(fqn),
                    plan=state.plan_id,
                    evaluated_at=moment(altered),
                    recorded=record.with_evaluated(()),
                )
                _report_outside(instance, self._index, outcome, altered)
                if number < _MOST_LINES:
                    yield f"{outcome.name} was evaluated outside Dagster"
            self._settled[fqn] = altered
        if len(news) > _MOST_LINES:
            yield f"{len(news)} models were evaluated outside Dagster"

    def _upstream(self, in_progress: Collection[str]) -> set[str]:
        """Returns models and all that is upstream of them."""
        upstream: set[str] = set()
        queue = list(in_progress)
        while queue:
            fqn = queue.pop()
            if fqn not in upstream:
                upstream.add(fqn)
                queue.extend(self._models[fqn].parents if fqn in self._models else ())
        return upstream

    def _reported_until(
        self, instance: dg.DagsterInstance, models: Sequence[str]
    ) -> dict[str, int]:
        """Returns until when each model's evaluations are reported, in SQLMesh's milliseconds."""
        by_key = {self._index.keys[fqn]: fqn for fqn in models}
        reported = dict.fromkeys(models, 0)
        for record in instance.get_asset_records(list(by_key)):
            fqn = by_key[record.asset_entry.asset_key]
            last = record.asset_entry.last_materialization_record
            if last is not None:
                until = _tells_until(last.event_log_entry)
                reported[fqn] = self._last_reported(instance, fqn) if until is None else until
        # Batches that were finished before one failed are that run's own.
        own = self._recovery.evaluated
        return {fqn: max(until, _own(own.get(fqn))) for fqn, until in reported.items()}

    def _last_reported(self, instance: dg.DagsterInstance, fqn: str) -> int:
        """Returns the same for one model, from its latest materializations."""
        records = instance.fetch_materializations(self._index.keys[fqn], limit=_LOOK_BACK).records
        moments = (_tells_until(record.event_log_entry) for record in records)
        return next((until for until in moments if until is not None), 0)


def _tells_until(entry: dg.EventLogEntry) -> int | None:
    """Returns until when a materialization tells of evaluations; ``None`` if it tells of none."""
    materialization = entry.asset_materialization
    metadata = materialization.metadata if materialization is not None else {}
    outcome = metadata.get("sqlmesh/outcome")
    if outcome is not None and outcome.value == OutcomeStatus.UP_TO_DATE.value:
        return None
    evaluated_at = metadata.get(EVALUATED_AT)
    # Anybody can report a materialization with metadata of this name. Without a plausible moment
    # the materialization itself tells of everything up to when it was made.
    if (
        isinstance(evaluated_at, dg.TimestampMetadataValue)
        and 0 < evaluated_at.value <= entry.timestamp + _CLOCK_SKEW_SECONDS
    ):
        return _milliseconds(evaluated_at.value)
    return _milliseconds(entry.timestamp)


def _own(moment: datetime | None) -> int:
    return _milliseconds(moment.timestamp()) if moment is not None else 0


def _milliseconds(timestamp: float) -> int:
    # This rounds up, because SQLMesh cuts its own off, at the same moment or before.
    return ceil(round(timestamp * 1000, 3))


def _report_outside(
    instance: dg.DagsterInstance, index: AssetIndex, outcome: Outcome, altered: int
) -> None:
    metadata = outcome_metadata(outcome)
    for unknown in ("sqlmesh/batches", "sqlmesh/duration_ms"):
        metadata.pop(unknown)
    instance.report_runless_asset_event(
        dg.AssetMaterialization(
            asset_key=index.keys[outcome.model],
            description="Evaluated by SQLMesh outside Dagster",
            metadata=metadata,
            tags={"dagster/data_version": f"{outcome.snapshot}@{altered}"},
        )
    )
    report_version(instance, index, outcome)
