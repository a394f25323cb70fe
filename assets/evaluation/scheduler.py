"""SQLMesh's scheduler with our ears on it: every batch, audit, signal and failure is heard.

Everything that hooks into SQLMesh's scheduler, evaluator and console is here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterable, Mapping, Set
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlmesh.core.environment import execute_environment_statements
from sqlmesh.core.macros import RuntimeStage
from sqlmesh.core.snapshot import DeployabilityIndex
from sqlmesh.utils.errors import NodeAuditsErrors, SQLMeshError

from ...config.errors import LeaseLost
from ..intervals import Interval, moment
from ..lease.server import ModelLease
from ..ledger.outcome import AuditOutcome, error_message
from ..naming import audit_use, check_name
from ..project.model_facts import audit_args
from ..project.outages import is_outage
from ..project.snapshots import display_name, table_identity
from ..sqlmesh_internals import writing_adapters
from .contract import ExecutionRequest
from .in_flight import Batch, InFlight
from .query_tags import tagged
from .readiness import ReadinessScheduler
from .recorder import Recorder
from .state import LeasedState

if TYPE_CHECKING:
    from sqlmesh.core.context import Context
    from sqlmesh.core.environment import Environment, EnvironmentNamingInfo
    from sqlmesh.core.model.definition import AuditResult
    from sqlmesh.core.snapshot import Snapshot, SnapshotEvaluator


class RecordingScheduler(ReadinessScheduler):
    """SQLMesh's scheduler, which tells the recorder of every batch it evaluates.

    Attributes:
        failed: ``fqn`` of what has failed.
        left_out: Why a standalone audit is left out, by ``fqn``.
        passed_over: What would be evaluated if nothing upstream of it, or it itself, were in
            :attr:`unready`.
    """

    recorder: Recorder
    lease: ModelLease
    in_flight: InFlight
    failed: set[str]
    left_out: dict[str, str]
    passed_over: dict[Snapshot, Any]
    index: DeployabilityIndex

    @classmethod
    def of(
        cls,
        context: Context,
        environment: Environment,
        recorder: Recorder,
        lease: ModelLease,
        in_flight: InFlight,
        request: ExecutionRequest,
    ) -> RecordingScheduler:
        """The scheduler of an environment, as ``Context.run`` makes it, for a Dagster run."""
        state, evaluator = context.state_sync, tagged(context.snapshot_evaluator, request.run_id)
        lease.guard(writing_adapters(context))
        scheduler = cls(
            state.get_snapshots(environment.snapshots).values(),
            evaluator,
            LeasedState(state, lease, in_flight),  # type: ignore[abstract]  # its methods are set after it
            default_catalog=context.default_catalog,
            max_workers=1 if request.one_at_a_time else context.concurrent_tasks,
            console=context.console,
            notification_target_manager=context.notification_target_manager,
        )
        scheduler.recorder, scheduler.lease, scheduler.in_flight = recorder, lease, in_flight
        scheduler.failed, scheduler.left_out, scheduler.passed_over = set(), {}, {}
        # As Context.run: only prod's tables are all deployable.
        scheduler.index = (
            DeployabilityIndex.all_deployable()
            if environment.naming_info.name == "prod"
            else DeployabilityIndex.create(scheduler.snapshots.values())
        )
        _record_audits(evaluator, recorder)
        return scheduler

    def evaluate(self, snapshot: Snapshot, *args: Any, **kwargs: Any) -> list[AuditResult]:
        """Evaluates one batch and audits it; a failure is recorded on its way to the caller."""
        with self.in_flight.batch(snapshot.name, display_name(snapshot)) as batch:
            try:
                return super().evaluate(snapshot, *args, **kwargs)
            # A Python model or a macro that calls exit() would end SQLMesh and the whole run.
            except (Exception, SystemExit) as error:
                batch.close()
                self.failed.add(snapshot.name)
                # Then it is not the model's failure, and somebody else may be evaluating it.
                if self.lease.lost:
                    raise LeaseLost from error
                self._record_failure(snapshot, batch, error, kwargs)
                if isinstance(error, SystemExit):
                    raise SQLMeshError(error_message(error)) from error
                raise

    def _record_failure(
        self, snapshot: Snapshot, batch: Batch, error: BaseException, arguments: dict[str, Any]
    ) -> None:
        audit = isinstance(error, NodeAuditsErrors)
        exceeded = None if audit else batch.exceeded
        if self.in_flight.stopped and exceeded is None and not audit:
            self.recorder.stopped(snapshot.name)
            return
        self.recorder.failed(
            snapshot.name,
            error=error_message(error) if exceeded is None else exceeded.error,
            audit=audit,
            sql=None if audit else _rendered(snapshot, self, arguments),
            unreachable=exceeded is None and is_outage(error),
        )

    def merged_missing_intervals(self, *args: Any, **kwargs: Any) -> Any:
        """What misses intervals among the selected, with the lease on all of it in hand.

        Asked by the scheduler at the beginning of a run, which then evaluates what this gives and
        nothing else.
        """
        held: set[str] = set()
        while True:
            missing = self._missing(*args, **kwargs)
            names = {snapshot.name for snapshot in missing}
            if names <= held:
                return missing
            self.lease.hold(
                {table_identity(snapshot): display_name(snapshot) for snapshot in missing}
            )
            held = names
            self.refresh()

    def refresh(self) -> None:
        """Reads what is recorded: whoever had the lease before may have evaluated something."""
        for snapshot in self.snapshots.values():
            snapshot.pending_restatement_intervals = []  # a refresh only adds to these
        self.state_sync.refresh_snapshot_intervals(self.snapshots.values())

    def _missing(
        self, *args: Any, selected_snapshots: set[str] | None = None, **kwargs: Any
    ) -> dict[Snapshot, Any]:
        """As SQLMesh has it, but for standalone audits ahead of what they read.

        SQLMesh itself never selects standalone audits. One that rides along with a model that a
        person runs would be recorded for a time that the other models it reads do not have yet.
        """
        self.left_out = {}
        intervals_by_snapshot = super().merged_missing_intervals(*args, **kwargs)
        selected = (
            selected_snapshots if selected_snapshots is not None else set(self.snapshots_by_name)
        )
        missing = {each.name for each in (*intervals_by_snapshot, *self.apart)} - selected
        self.apart = {each: self.apart[each] for each in self.apart if each.name in selected}
        self.unready = {name: self.unready[name] for name in self.unready if name in selected}
        for snapshot in intervals_by_snapshot:
            if snapshot.is_audit and (lacking := missing & self.ancestors(snapshot.name)):
                named = ", ".join(
                    sorted(display_name(self.snapshots_by_name[parent]) for parent in lacking)
                )
                self.left_out[snapshot.name] = f"{named} has to be evaluated first"
        return {
            snapshot: intervals
            for snapshot, intervals in intervals_by_snapshot.items()
            if snapshot.name in selected and snapshot.name not in self.left_out
        }

    def batch_intervals(self, merged_intervals: Any, *args: Any, **kwargs: Any) -> Any:
        """What is evaluated, without models whose readiness cannot be told and what reads them."""
        batches = super().batch_intervals(merged_intervals, *args, **kwargs)
        self.passed_over = {
            snapshot: intervals
            for snapshot, intervals in batches.items()
            if snapshot.name in self.unready or self.unready_upstream(snapshot.name)
        }
        return {each: batches[each] for each in batches if each not in self.passed_over}

    def unready_upstream(self, name: str) -> set[str]:
        """What a snapshot reads, directly or not, whose readiness cannot be told, by name."""
        return self.unready.keys() & self.ancestors(name) if self.unready else set()

    def end(self, environment: EnvironmentNamingInfo, at: datetime, models: Set[str]) -> None:
        """Executes the statements of ``after_all`` once more, or for a process that died in them.

        As ``run`` does after the last model; it leaves them out where nothing misses intervals.

        Args:
            environment: Where.
            at: The moment for which the execution is done.
            models: ``fqn`` of what the execution is about.
        """
        nodes = [each.node for name, each in self.snapshots_by_name.items() if name in models]
        execute_environment_statements(
            adapter=self.snapshot_evaluator.adapter,
            environment_statements=self.state_sync.get_environment_statements(environment.name),
            runtime_stage=RuntimeStage.AFTER_ALL,
            environment_naming_info=environment,
            default_catalog=self.default_catalog,
            snapshots=self.snapshots_by_name,
            end=at,
            execution_time=at,
            selected_models={node.dbt_unique_id for node in nodes if node.dbt_unique_id},
        )

    def recorded_intervals(self, name: str) -> list[Interval]:
        """What SQLMesh has recorded of a snapshot, as it was at the beginning of the run."""
        snapshot = self.snapshots_by_name[name]
        deployable = self.index.is_representative(snapshot)
        ranges = snapshot.intervals if deployable else snapshot.dev_intervals
        return [(moment(start), moment(end)) for start, end in ranges]

    def ancestors(self, name: str) -> set[str]:
        """All that a snapshot reads, directly or not, by name."""
        return ancestors([name], self.snapshots_by_name) - {name}


def ancestors(
    names: Iterable[str],
    snapshots: Mapping[str, Snapshot],
    ignoring: Container[str] = frozenset(),
) -> set[str]:
    """The names and everything upstream of them that the environment holds.

    Args:
        names: The snapshots to begin with.
        snapshots: All snapshots of the environment, by name.
        ignoring: Names beyond which it does not go.
    """
    reached: set[str] = set()
    queue = deque(names)
    while queue:
        name = queue.popleft()
        if name not in reached and name in snapshots:
            reached.add(name)
            if name not in ignoring:
                queue.extend(parent.name for parent in snapshots[name].parents)
    return reached


def _record_audits(evaluator: SnapshotEvaluator, recorder: Recorder) -> None:
    """Has the evaluator tell the recorder of every audit.

    Its return value is the only place where passed audits have names, and the scheduler drops it
    when a blocking audit fails.
    """
    original = evaluator.audit

    def audit(*, snapshot: Snapshot, **kwargs: Any) -> list[AuditResult]:
        results = original(snapshot=snapshot, **kwargs)
        used = [result for result in results if not result.skipped]
        dialect = evaluator.adapter.dialect
        recorder.audited(snapshot.name, [audit_outcome(result, dialect) for result in used])
        return results

    evaluator.audit = audit  # type: ignore[method-assign, assignment]


def audit_outcome(result: AuditResult, dialect: str) -> AuditOutcome:
    """What SQLMesh tells of one audit, as outcomes have it."""
    name, args = result.audit.name, audit_args(result.audit_args)
    return AuditOutcome(
        check=check_name(name, args),
        use=audit_use(name, args),
        passed=not result.count,
        blocking=result.blocking,
        count=result.count or 0,
        query=result.query.sql(dialect=dialect, pretty=True)
        if result.count and result.query is not None
        else None,
    )


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
