"""What SQLMesh says on its console while it runs: batches, signals, failures."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlmesh.core.console import NoopConsole
from sqlmesh.core.snapshot import SnapshotId, snapshots_to_dag
from sqlmesh.core.snapshot.definition import expand_range

from ..intervals import Interval, Record, moment
from ..ledger.outcome import Hashes, error_message
from ..project.opening import SQLMESH_LOCK
from ..project.outages import is_outage
from ..project.snapshots import display_name
from ..project.spans import Spans
from .contract import Unready
from .progress import Progress

if TYPE_CHECKING:
    from sqlmesh.core.snapshot import DeployabilityIndex, Snapshot

    from .scheduler import RecordingScheduler

_log = logging.getLogger(__name__)


class SignalConsole(NoopConsole):
    """Remembers which signals hold models back.

    Attributes:
        holding: The first signal that was not ready for all intervals, by the model's ``fqn``.
        asked: The signals that have answered, by the model's ``fqn``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.holding: dict[str, str] = {}
        self.asked: dict[str, set[str]] = {}

    def start_signal_progress(self, snapshot: Snapshot, *args: Any, **kwargs: Any) -> None:
        """SQLMesh is about to ask a model's signals."""
        self.asked[snapshot.name] = set()

    def update_signal_progress(
        self, snapshot: Snapshot, signal_name: str, *args: Any, **kwargs: Any
    ) -> None:
        """SQLMesh has asked a signal which intervals are ready."""
        self.asked[snapshot.name].add(signal_name)
        if kwargs["ready_intervals"] != kwargs["check_intervals"]:
            self.holding.setdefault(snapshot.name, signal_name)


def unready_reasons(
    holding: Mapping[str, str], snapshots: Mapping[SnapshotId, Snapshot]
) -> dict[str, Unready]:
    """Why intervals of a model are not ready although its cron has elapsed, by ``fqn``.

    Args:
        holding: The signal that holds a model, by ``fqn``.
        snapshots: All snapshots of the environment.

    Returns:
        A reason for each model that a signal holds, itself or upstream.
    """
    held: dict[str, frozenset[str]] = {}
    reasons: dict[str, Unready] = {}
    for snapshot_id in snapshots_to_dag(snapshots.values()) if holding else ():
        name = snapshot_id.name
        parents = snapshots[snapshot_id].parents if snapshot_id in snapshots else ()
        by = frozenset().union(*(held.get(parent.name, frozenset()) for parent in parents))
        if name in holding:
            by = frozenset({name})
            reasons[name] = Unready(holding[name])
        elif by:
            first, *others = sorted(by)
            reasons[name] = Unready(holding[first], _plain(first), len(others))
        held[name] = by
    return reasons


def _plain(fqn: str) -> str:
    """A quoted name without its quotes, and without its catalog."""
    return ".".join(fqn.replace('"', "").split(".")[-2:])


class RecordingConsole(SignalConsole):
    """SQLMesh's progress, handed to the recorder.

    Attributes:
        skipped: ``fqn`` of what SQLMesh passed over because of a failure upstream.
        is_evaluated: Whether SQLMesh has dealt with every model, so that what follows is the end.
    """

    def __init__(self) -> None:
        super().__init__()
        self.skipped: set[str] = set()
        self.is_evaluated = False
        self._started = False

    def attach(
        self,
        scheduler: RecordingScheduler,
        selected: frozenset[str],
        considered: set[str],
        at: datetime,
    ) -> None:
        """Takes what the console needs to tell the recorder, before the scheduler runs.

        Args:
            scheduler: The one that is to run.
            selected: The models whose outcome is wanted, by ``fqn``.
            considered: The models that the scheduler may evaluate.
            at: The moment for which it runs.
        """
        self._scheduler, self._wanted = scheduler, selected
        self._considered, self._spans = considered, Spans(scheduler.snapshots, at)

    def nothing_to_do_unless_started(self) -> None:
        """The scheduler returns without a word when no model misses an interval."""
        if not self._started:
            self.start_evaluation_progress({})
            self.is_evaluated = True

    def start_evaluation_progress(self, batched_intervals: Any, *args: Any, **kwargs: Any) -> None:
        """SQLMesh knows what it is going to evaluate."""
        self._started = True
        batches = _by_name(batched_intervals)
        scheduler = self._scheduler
        passed_over = _by_name({**scheduler.apart, **scheduler.passed_over})
        self._unready = unready_reasons(self.holding, self._scheduler.snapshots)
        inherited = {
            name: done
            for name, planned in self._scheduler.recorder.inherited.items()
            if (done := self._recorded(name, planned, (batches | passed_over).get(name, ())))
        }
        feeding = {
            ancestor
            for name, planned in batches.items()
            if planned and name in self._wanted
            for ancestor in self._scheduler.ancestors(name)
        }
        asked = self._wanted & self._considered
        self._scheduler.recorder.planned(
            {
                name: self._progress(
                    name, batches | passed_over, inherited.get(name, []), name in feeding
                )
                for name in asked | batches.keys() | passed_over.keys() | inherited.keys()
            },
            self._wanted,
            new={name: self._unrecorded(name, each) for name, each in batches.items() if each},
        )
        self._pass_over(passed_over)

    def _progress(
        self,
        name: str,
        batches: Mapping[str, Sequence[Interval]],
        inherited: list[Interval],
        feeds_executed: bool,
    ) -> Progress:
        snapshot = self._scheduler.snapshots_by_name[name]
        return Progress(
            name=display_name(snapshot),
            snapshot=snapshot.identifier,
            hashes=Hashes(snapshot.fingerprint.data_hash, snapshot.fingerprint.metadata_hash),
            table=_table(snapshot, self._scheduler.index),
            planned=[*inherited, *batches.get(name, ())],
            done=inherited,
            recovered=bool(inherited),
            interval_count=sum(_count(snapshot, batch) for batch in inherited),
            reason=self._why_nothing(name, batches),
            next_interval=self._next_interval(snapshot),
            recorded=self._recorded_before(snapshot),
            feeds_executed=feeds_executed,
        )

    def _next_interval(self, snapshot: Snapshot) -> datetime | None:
        with SQLMESH_LOCK:
            return self._spans.next_tick(snapshot)

    def _recorded_before(self, snapshot: Snapshot) -> Record | None:
        if not snapshot.evaluatable or snapshot.is_audit:
            return None
        main = self._scheduler.index.is_representative(snapshot)
        with SQLMESH_LOCK:
            ranges = snapshot.intervals if main else snapshot.dev_intervals
            return self._spans.record(snapshot, ranges)

    def _pass_over(self, models: Iterable[str]) -> None:
        """Tells what SQLMesh does not try: models whose readiness nobody can tell, their readers.

        Args:
            models: Both, by ``fqn``.
        """
        scheduler = self._scheduler
        for name, failure in scheduler.unready.items():
            scheduler.failed.add(name)
            _log.warning("%s: %s", name, failure.what, exc_info=failure.cause)
            scheduler.recorder.failed(
                name, error=str(failure), audit=False, unreachable=failure.unreachable
            )
        scheduler.recorder.close_failures()
        for name in models:
            if upstream := scheduler.unready_upstream(name) - {name}:
                scheduler.recorder.skipped(name, upstream)

    def _recorded(
        self, name: str, planned: Sequence[Interval], again: Sequence[Interval]
    ) -> list[Interval]:
        """What a process that died has evaluated of what it had planned and SQLMesh had not."""
        if name not in self._scheduler.snapshots_by_name:
            return []
        missing = self._unrecorded(name, planned)
        return [batch for batch in planned if batch not in missing and batch not in again]

    def _unrecorded(self, name: str, intervals: Sequence[Interval]) -> list[Interval]:
        recorded = self._scheduler.recorded_intervals(name)
        return [
            interval
            for interval in intervals
            if not any(start <= interval[0] and interval[1] <= end for start, end in recorded)
        ]

    def _why_nothing(self, name: str, batches: Mapping[str, Any]) -> str:
        """Why a model whose cron has elapsed has no batch; empty where it has some."""
        if reason := self._scheduler.left_out.get(name):
            return reason
        if name not in batches or batches[name]:
            return ""
        return str(self._unready.get(name, Unready()))

    def update_snapshot_evaluation_progress(
        self,
        snapshot: Snapshot,
        interval: tuple[int, int],
        batch_idx: int,
        duration_ms: int | None,
        *args: Any,
        execution_stats: Any = None,
        **kwargs: Any,
    ) -> None:
        """SQLMesh has evaluated and audited a batch, or failed to."""
        if duration_ms is None:  # it failed: the scheduler's evaluate has said how
            return
        batch = (moment(interval[0]), moment(interval[1]))
        self._scheduler.recorder.done(
            snapshot.name,
            batch,
            interval_count=_count(snapshot, batch),
            duration_ms=duration_ms,
            rows=execution_stats.total_rows_processed if execution_stats else None,
            bytes_=execution_stats.total_bytes_processed if execution_stats else None,
        )

    def stop_evaluation_progress(self, success: bool = True) -> None:
        """SQLMesh has dealt with every model, or stopped in between."""
        self.is_evaluated = True

    def log_skipped_models(self, snapshot_names: set[str]) -> None:
        """SQLMesh has passed models over because of a failure upstream."""
        self.skipped |= snapshot_names

    def log_failed_models(self, errors: Any) -> None:
        """Covers what fails outside ``evaluate``, such as creating a table."""
        for error in errors:
            name, cause = error.node.snapshot_name, error.__cause__ or error
            if name not in self._scheduler.failed and not self._scheduler.in_flight.stopped:
                self._scheduler.failed.add(name)
                self._scheduler.recorder.failed(
                    name,
                    error=error_message(cause),
                    audit=False,
                    unreachable=is_outage(cause),
                )


def _by_name(intervals: Mapping[Snapshot, Any]) -> dict[str, list[Interval]]:
    return {
        snapshot.name: [(moment(start), moment(end)) for start, end in ranges]
        for snapshot, ranges in intervals.items()
    }


def _count(snapshot: Snapshot, interval: Interval) -> int:
    """How many of the model's own intervals a range holds."""
    start, end = (int(moment.timestamp() * 1000) for moment in interval)
    with SQLMESH_LOCK:
        return len(expand_range(start, end, snapshot.node.interval_unit)) - 1


def _table(snapshot: Snapshot, index: DeployabilityIndex) -> str | None:
    """The physical table of a model, without quotes; a standalone audit has none."""
    if not snapshot.is_model or snapshot.is_symbolic:
        return None
    return snapshot.table_name(is_deployable=index.is_deployable(snapshot)).replace('"', "")
