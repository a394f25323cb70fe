"""One call into SQLMesh's scheduler, which evaluates a set of models.

The only module that makes SQLMesh evaluate anything. Runs in one thread from beginning to end,
because a SQLMesh context may not move between threads.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING

from sqlmesh.core.notification_target import NotificationEvent
from sqlmesh.utils.errors import CircuitBreakerError, SQLMeshError

from ...config.errors import DatabaseLocked, ExecutionEndFailed, ExecutionStopped, LeaseLost
from ...config.settings import AutomationSettings
from ..lease.server import ModelLease, model_lease
from ..lease.waiting import Wait, database_lease
from ..ledger.history import RunEvent
from ..ledger.outcome import error_message
from ..project.environment import read_environment
from ..project.failures import naming_failures
from ..project.opening import duckdb_files, open_context
from ..project.snapshots import display_name
from ..project.withholding import Withholding
from ..sqlmesh_internals import load_materializations, writing_adapters
from .auditing import LoneAudits
from .cancelling import Statements
from .console import RecordingConsole
from .contract import ExecutionRequest, RunSide
from .in_flight import InFlight
from .notifications import guard_notifications
from .query_tags import tagged
from .readiness import take_empty_restatements
from .recorder import Recorder
from .scheduler import RecordingScheduler, ancestors
from .watching import Watch

if TYPE_CHECKING:
    from sqlmesh.core.context import Context
    from sqlmesh.core.environment import Environment

_OPEN_POLL_SECONDS = 0.5


def execute(settings: AutomationSettings, request: ExecutionRequest, run: RunSide) -> None:
    """Evaluates the selected models and the upstream models that miss intervals, as SQLMesh does.

    Waits for the databases, for other executions of the same models, and for a plan that is being
    applied. A plan that changes the environment on the way makes SQLMesh begin anew with what is
    left.

    Args:
        settings: The project and environment.
        request: What to do.
        run: Dagster's side of it.

    Raises:
        EnvironmentNotFound: The environment has never been planned.
        Unavailable: A database stays locked or is out of reach, or the lease was lost.
        ConfigurationError: The project cannot be opened.
        ExecutionEndFailed: SQLMesh failed after the last model, for example on ``after_all``.
        SQLMeshFailed: SQLMesh gave up before evaluating anything.
    """
    wait = Wait(settings.lease_timeout_seconds, run.say, run.given_up, settings.place)
    with (
        open_context(settings, load=False) as context,
        database_lease(duckdb_files(context), wait, f"run {request.run_id}"),
    ):
        try:
            guard_notifications(context, settings, run.say)
            with model_lease(
                context,
                settings.environment,
                request.run_id,
                executions=settings.max_concurrent_executions,
                wait=wait,
            ) as lease:
                _evaluate(context, settings, request, run, lease)
        finally:
            # Before the database's lease is: whoever gets it next opens the same files.
            context.close()


def _evaluate(
    context: Context,
    settings: AutomationSettings,
    request: ExecutionRequest,
    run: RunSide,
    lease: ModelLease,
) -> None:
    legacy = run.admit()
    if legacy is None:
        return
    # Custom materializations come from the project's files even when models do not.
    load_materializations(context)
    recorder = Recorder(run.record, run.plan)
    recorder.inherit(legacy)
    tell = context.notification_target_manager.notify
    # Audits alone are no run of SQLMesh's.
    if legacy.is_first and request.selected:
        tell(NotificationEvent.RUN_START, environment=settings.environment)
    try:
        with naming_failures(settings):
            while not _run(context, settings, request, run, recorder, lease):
                run.say("A plan changed the environment: SQLMesh begins anew with what is left")
    except (Exception, SystemExit):
        if run.run_event(True) is RunEvent.RUN_FAILURE and request.selected:
            tell(NotificationEvent.RUN_FAILURE, traceback.format_exc())
        raise
    event = run.run_event(False) if request.selected else None
    if event is RunEvent.RUN_END:
        tell(NotificationEvent.RUN_END, environment=settings.environment)
    elif event is RunEvent.RUN_FAILURE:
        tell(NotificationEvent.RUN_FAILURE, f"See Dagster run {request.run_id} for details.")


def _run(
    context: Context,
    settings: AutomationSettings,
    request: ExecutionRequest,
    run: RunSide,
    recorder: Recorder,
    lease: ModelLease,
) -> bool:
    """Runs SQLMesh's scheduler once.

    Returns:
        Whether the run came to its end; false if a plan changed the environment on the way.
    """
    environment = _finalized(context, settings, run)
    recorder.plan = environment.plan_id
    console, in_flight = RecordingConsole(), InFlight(run.began, run.left)
    context.console = console
    *warehouses, state = writing_adapters(context)
    statements = Statements(warehouses, state)
    scheduler = RecordingScheduler.of(context, environment, recorder, lease, in_flight, request)
    for line in take_empty_restatements(scheduler.snapshots.values(), request.at):
        run.say(line)
    selected = frozenset(request.selected) - recorder.recorded
    for model in selected - scheduler.snapshots_by_name.keys():
        recorder.absent(model, request.selected[model], settings.environment)
    breaker = _Breaker(context, environment, lease, run.cancelled)
    evaluator = tagged(context.snapshot_evaluator, request.run_id)
    audits = LoneAudits(scheduler, evaluator, request, environment.name)
    interrupted = False
    try:
        with Watch(in_flight, request.limits, statements, run):
            # First: what reads a model of which a blocking audit fails is not evaluated.
            audits.evaluate(breaker)
            if request.selected:
                considered = _considered(selected, request.ignoring, scheduler, recorder, settings)
                console.attach(scheduler, selected, considered, request.at)
                status = scheduler.run(
                    environment.naming_info,
                    end=request.at,
                    execution_time=request.at,
                    selected_snapshots=considered,
                    circuit_breaker=breaker,
                    auto_restatement_enabled=environment.name == "prod",
                    run_environment_statements=True,
                )
                console.nothing_to_do_unless_started()
                if status.is_nothing_to_do and recorder.owes_end:
                    scheduler.end(environment.naming_info, request.at, request.selected.keys())
    except CircuitBreakerError:
        interrupted = True
    # SystemExit: a macro of a statement that calls exit().
    except (Exception, SystemExit) as error:
        if breaker.error is not None or lease.lost:
            recorder.close_failures()
            raise breaker.error or LeaseLost from error
        if not in_flight.stopped:
            if breaker.has_stopped or not console.is_evaluated:
                recorder.close_failures()
                raise
            recorder.ended(console.skipped, scheduler.ancestors, stopped=False, terminated=False)
            raise ExecutionEndFailed(Withholding(settings).text(error_message(error))) from error
        run.say(f"SQLMesh was stopped: {Withholding(settings).text(error_message(error))}")
    interrupted = interrupted or in_flight.stopped
    if breaker.error is not None or lease.lost:
        recorder.close_failures()
        raise breaker.error or LeaseLost
    if interrupted and not run.cancelled():
        recorder.close_failures()
        return False
    if not (interrupted and run.handed_over()):
        terminated = interrupted and run.terminated()
        recorder.ended(
            console.skipped, scheduler.ancestors, stopped=interrupted, terminated=terminated
        )
        if terminated:
            audits.cancel()
        if interrupted and not terminated:
            raise ExecutionStopped(request.run_id)
    return True


class _Breaker:
    """SQLMesh's circuit breaker: called before every batch, it returns true to stop there.

    Args:
        context: Reads the environment as it is now.
        environment: The environment as the execution began with it.
        lease: The lease, which may have been lost.
        cancelled: Returns whether the execution is to stop.

    Attributes:
        error: Why the question could not be answered. Raised inside SQLMesh it would become the
            failure of the next model, so the execution raises it after it stopped.
        has_stopped: Whether SQLMesh was told to stop.
    """

    def __init__(
        self,
        context: Context,
        environment: Environment,
        lease: ModelLease,
        cancelled: Callable[[], bool],
    ) -> None:
        self._context, self._environment = context, environment
        self._lease, self._cancelled = lease, cancelled
        self.error: Exception | None = None
        self.has_stopped = False

    def __call__(self) -> bool:
        """Whether SQLMesh is to stop before the next batch."""
        self.has_stopped = self.has_stopped or self._stops()
        return self.has_stopped

    def _stops(self) -> bool:
        if self.error is not None:
            return True
        try:
            self._lease.check(now=False)
            now = self._context.state_sync.get_environment(self._environment.name)
        except Exception as error:  # noqa: BLE001 - raised by the execution, see error
            self.error = error
            return True
        plan_changed = (
            now is None or now.plan_id != self._environment.plan_id or not now.finalized_ts
        )
        return plan_changed or self._cancelled()


def _finalized(context: Context, settings: AutomationSettings, run: RunSide) -> Environment:
    """The environment, once its plan has been applied and the database can be opened."""
    limits = context.config.run
    is_announced = False
    deadline = time.monotonic() + limits.environment_check_max_wait
    locked_until = time.monotonic() + settings.lease_timeout_seconds
    while True:
        try:
            with naming_failures(settings):
                environment = read_environment(context, settings)
                # Opens the databases of all gateways, as the scheduler is about to.
                _ = context.default_catalog_per_gateway
        except DatabaseLocked as error:
            # A process that knows nothing of our lease: sqlmesh or duckdb on a command line.
            if time.monotonic() > locked_until or run.cancelled():
                raise
            if not is_announced:
                run.say(f"Waiting: {error}")
                is_announced = True
            time.sleep(_OPEN_POLL_SECONDS)
            continue
        if environment.finalized_ts:
            return environment
        if time.monotonic() > deadline or run.cancelled():
            raise SQLMeshError(
                f"Environment {environment.name!r} is being changed by plan {environment.plan_id}, "
                "which did not end in time (SQLMesh's run.environment_check_max_wait)."
            )
        if not is_announced:
            run.say(f"Waiting for plan {environment.plan_id} of {environment.name!r} to end")
            is_announced = True
        time.sleep(min(limits.environment_check_interval, 5))


def _considered(
    selected: frozenset[str],
    ignoring: frozenset[str],
    scheduler: RecordingScheduler,
    recorder: Recorder,
    settings: AutomationSettings,
) -> set[str]:
    """What SQLMesh's own ``run --select-model`` would evaluate for a selection.

    Models that ignore their upstream do not draw it in, nor do standalone audits, unless nothing
    else is selected. What reads a model that has failed in this round (before a plan changed the
    environment, or before this process took over, or of which a blocking audit has failed alone)
    has no chance and is recorded as skipped.
    """
    snapshots, failures = scheduler.snapshots_by_name, recorder.failures | recorder.blocked
    for name in sorted(selected & snapshots.keys()):
        if failed := failures & scheduler.ancestors(name):
            recorder.passed_over(name, display_name(snapshots[name]), failed)
    unrecorded = (selected - recorder.recorded) & snapshots.keys()
    if not settings.auto_upstream:
        return set(unrecorded)
    models = {name for name in unrecorded if snapshots[name].is_model}
    return (ancestors(models or unrecorded, snapshots, ignoring) | unrecorded) - recorder.failures
