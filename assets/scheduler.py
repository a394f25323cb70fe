"""SQLMesh's scheduler with our ears on it: every batch, audit, signal and failure is heard.

Everything that hooks into SQLMesh's scheduler, evaluator and console is here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlmesh.core.console import NoopConsole
from sqlmesh.core.scheduler import Scheduler
from sqlmesh.core.snapshot import DeployabilityIndex, SnapshotId, snapshots_to_dag
from sqlmesh.core.snapshot.definition import expand_range
from sqlmesh.utils.errors import NodeAuditsErrors, SQLMeshError

from .naming import check_name
from .outcome import AuditOutcome
from .project import SQLMESH_LOCK, audit_args
from .recorder import Progress, Recorder, moment

if TYPE_CHECKING:
    from sqlmesh.core.context import Context
    from sqlmesh.core.environment import Environment
    from sqlmesh.core.model.definition import AuditResult
    from sqlmesh.core.snapshot import Snapshot, SnapshotEvaluator


class RecordingScheduler(Scheduler):
    """SQLMesh's scheduler, which tells the recorder of every batch it evaluates."""

    recorder: Recorder
    failed: set[str]
    left_out: dict[str, str]

    @classmethod
    def of(
        cls, context: Context, environment: Environment, recorder: Recorder
    ) -> RecordingScheduler:
        """The scheduler of an environment, as ``Context.create_scheduler`` makes it."""
        state = context.state_sync
        scheduler = cls(
            state.get_snapshots(environment.snapshots).values(),
            context.snapshot_evaluator,
            state,
            default_catalog=context.default_catalog,
            max_workers=context.concurrent_tasks,
            console=context.console,
            notification_target_manager=context.notification_target_manager,
        )
        scheduler.recorder, scheduler.failed, scheduler.left_out = recorder, set(), {}
        _record_audits(context.snapshot_evaluator, recorder)
        return scheduler

    def evaluate(self, snapshot: Snapshot, *args: Any, **kwargs: Any) -> list[AuditResult]:
        """Evaluates one batch and audits it; a failure is recorded on its way to the caller."""
        try:
            return super().evaluate(snapshot, *args, **kwargs)
        except Exception as error:
            self.failed.add(snapshot.name)
            audit = isinstance(error, NodeAuditsErrors)
            sql = None if audit else _rendered(snapshot, self, kwargs)
            self.recorder.failed(snapshot.name, error=_message(error), audit=audit, sql=sql)
            raise

    def merged_missing_intervals(
        self, *args: Any, selected_snapshots: set[str] | None = None, **kwargs: Any
    ) -> Any:
        """What misses intervals among the selected; no standalone audit ahead of what it reads.

        SQLMesh itself never selects standalone audits. One that rides along with a model that a
        person runs would be recorded for a time that the other models it reads do not have yet.
        """
        every = super().merged_missing_intervals(*args, **kwargs)
        selected = (
            selected_snapshots if selected_snapshots is not None else set(self.snapshots_by_name)
        )
        missing = {snapshot.name for snapshot in every} - selected
        for snapshot in every:
            if snapshot.is_audit and (lacking := missing & self.ancestors(snapshot.name)):
                named = ", ".join(
                    sorted(_display(self.snapshots_by_name[each]) for each in lacking)
                )
                self.left_out[snapshot.name] = f"{named} has to be evaluated first"
        return {
            snapshot: intervals
            for snapshot, intervals in every.items()
            if snapshot.name in selected and snapshot.name not in self.left_out
        }

    def ancestors(self, name: str) -> set[str]:
        """All that a snapshot reads, directly or not, by name."""
        return ancestors([name], self.snapshots_by_name) - {name}


def ancestors(names: Iterable[str], snapshots: Mapping[str, Snapshot]) -> set[str]:
    """The names and everything upstream of them that the environment holds."""
    found: set[str] = set()
    queue = deque(names)
    while queue:
        name = queue.popleft()
        if name not in found and name in snapshots:
            found.add(name)
            queue.extend(parent.name for parent in snapshots[name].parents)
    return found


def _record_audits(evaluator: SnapshotEvaluator, recorder: Recorder) -> None:
    """Has the evaluator tell the recorder of every audit.

    Its return value is the only place where passed audits have names, and the scheduler drops it
    when a blocking audit fails.
    """
    original = getattr(evaluator.audit, "__wrapped__", evaluator.audit)

    def audit(*, snapshot: Snapshot, **kwargs: Any) -> list[AuditResult]:
        results = original(snapshot=snapshot, **kwargs)
        used = [result for result in results if not result.skipped]
        dialect = evaluator.adapter.dialect
        recorder.audited(
            snapshot.name,
            [
                AuditOutcome(
                    check=check_name(result.audit.name, audit_args(result.audit_args)),
                    passed=not result.count,
                    blocking=result.blocking,
                    count=result.count or 0,
                    query=result.query.sql(dialect=dialect, pretty=True)
                    if result.count and result.query is not None
                    else None,
                )
                for result in used
            ],
        )
        return results

    audit.__wrapped__ = original  # type: ignore[attr-defined]
    evaluator.audit = audit  # type: ignore[method-assign, assignment]


class SignalConsole(NoopConsole):
    """Remembers which signals hold models back.

    Attributes:
        holding: The first signal that was not ready for all intervals, by the model's ``fqn``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.holding: dict[str, str] = {}

    def update_signal_progress(
        self, snapshot: Snapshot, signal_name: str, *args: Any, **kwargs: Any
    ) -> None:
        """SQLMesh has asked a signal which intervals are ready."""
        if kwargs["ready_intervals"] != kwargs["check_intervals"]:
            self.holding.setdefault(snapshot.name, signal_name)


def unready_reasons(
    holding: Mapping[str, str], snapshots: Mapping[SnapshotId, Snapshot]
) -> dict[str, str]:
    """Why intervals of a model are not ready although its cron has elapsed, by ``fqn``.

    Args:
        holding: The signal that holds a model, by ``fqn``.
        snapshots: All snapshots of the environment.

    Returns:
        A reason for each model that a signal holds, itself or upstream.
    """
    held: dict[str, frozenset[str]] = {}
    reasons: dict[str, str] = {}
    for snapshot_id in snapshots_to_dag(snapshots.values()) if holding else ():
        name = snapshot_id.name
        parents = snapshots[snapshot_id].parents if snapshot_id in snapshots else ()
        by = frozenset().union(*(held.get(parent.name, frozenset()) for parent in parents))
        if name in holding:
            by = frozenset({name})
            reasons[name] = f"signal {holding[name]} holds it"
        elif by:
            reasons[name] = f"upstream {_named(by, holding)} is not ready"
        held[name] = by
    return reasons


def _named(models: frozenset[str], holding: Mapping[str, str]) -> str:
    first, *others = sorted(models)
    more = f" and {len(others)} more" if others else ""
    return f"{_plain(first)} (signal {holding[first]}){more}"


def _plain(fqn: str) -> str:
    """A quoted name without its quotes, and without its catalog."""
    return ".".join(fqn.replace('"', "").split(".")[-2:])


class RecordingConsole(SignalConsole):
    """SQLMesh's progress, handed to the recorder."""

    def __init__(self) -> None:
        super().__init__()
        self.skipped: set[str] = set()
        self._started = False

    def attach(
        self,
        scheduler: RecordingScheduler,
        wanted: frozenset[str],
        considered: set[str],
        at: datetime,
    ) -> None:
        """Takes what the console needs to tell the recorder, before the scheduler runs.

        Args:
            scheduler: The one that is to run.
            wanted: The models whose outcome is wanted, by ``fqn``.
            considered: The models that the scheduler may evaluate.
            at: The moment for which it runs.
        """
        self._scheduler, self._wanted = scheduler, wanted
        self._considered, self._at = considered, at

    def nothing_to_do_unless_started(self) -> None:
        """The scheduler returns without a word when no model misses an interval."""
        if not self._started:
            self.start_evaluation_progress({})

    def start_evaluation_progress(self, batched_intervals: Any, *args: Any, **kwargs: Any) -> None:
        """SQLMesh knows what it is going to evaluate."""
        self._started = True
        by_name = {snapshot.name: batches for snapshot, batches in batched_intervals.items()}
        known = self._scheduler.snapshots_by_name
        planned = {name for name, batches in by_name.items() if batches}
        self._unready = unready_reasons(self.holding, self._scheduler.snapshots)
        feeding = {
            ancestor
            for name in planned & self._wanted
            for ancestor in self._scheduler.ancestors(name)
        }
        progress = {
            name: Progress(
                name=_display(known[name]),
                snapshot=known[name].identifier,
                planned=[(moment(start), moment(end)) for start, end in by_name.get(name, ())],
                reason=self._why_nothing(name, by_name),
                next_interval=_next(known[name], self._at),
                feeds_executed=name in feeding,
            )
            for name in self._wanted & known.keys() | by_name.keys()
            if name in by_name or name in self._considered
        }
        self._scheduler.recorder.planned(progress, self._wanted)

    def _why_nothing(self, name: str, batches: Mapping[str, Any]) -> str:
        """Why a model whose cron has elapsed has no batch; empty where it has some."""
        if reason := self._scheduler.left_out.get(name):
            return reason
        if name not in batches or batches[name]:
            return ""
        return self._unready.get(name, "upstream is not ready")

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
        start, end = interval
        with SQLMESH_LOCK:
            interval_count = len(expand_range(start, end, snapshot.node.interval_unit)) - 1
        self._scheduler.recorder.done(
            snapshot.name,
            (moment(start), moment(end)),
            interval_count=interval_count,
            duration_ms=duration_ms,
            rows=execution_stats.total_rows_processed if execution_stats else None,
            bytes_=execution_stats.total_bytes_processed if execution_stats else None,
        )

    def log_skipped_models(self, snapshot_names: set[str]) -> None:
        """SQLMesh has passed models over because of a failure upstream."""
        self.skipped |= snapshot_names

    def log_failed_models(self, errors: Any) -> None:
        """Covers what fails outside ``evaluate``, such as creating a table."""
        for error in errors:
            name, cause = error.node.snapshot_name, error.__cause__ or error
            if name not in self._scheduler.failed:
                self._scheduler.failed.add(name)
                self._scheduler.recorder.failed(name, error=_message(cause), audit=False)


def _display(snapshot: Snapshot) -> str:
    return snapshot.model.name if snapshot.is_model else snapshot.name


def _next(snapshot: Snapshot, at: datetime) -> datetime:
    with SQLMESH_LOCK:
        found: datetime = snapshot.node.cron_next(at)
    return found


def _message(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _rendered(
    snapshot: Snapshot, scheduler: RecordingScheduler, batch: dict[str, Any]
) -> str | None:
    """The SQL of a batch that failed, where the model is SQL and still renders."""
    if not snapshot.is_model or not snapshot.model.is_sql:
        return None
    index = batch.get("deployability_index") or DeployabilityIndex.all_deployable()
    try:
        query = snapshot.model.render_query(
            start=batch["start"],
            end=batch["end"],
            execution_time=batch["execution_time"],
            snapshots=scheduler.snapshots_by_name,
            deployability_index=index,
            engine_adapter=scheduler.snapshot_evaluator.adapter,
        )
    except SQLMeshError:
        return None
    return query.sql(dialect=snapshot.model.dialect, pretty=True) if query is not None else None
