"""The CLI does one whole tick by hand here, its run included."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg

from ...assets.ledger.ledger import read_history
from ...assets.ledger.outcome import FAILURES, AuditOutcome, Outcome
from ...assets.ledger.process import this_process
from ...assets.ledger.run_tags import PROCESS_TAG
from ...config.errors import Unavailable
from ..definitions import Location
from ..tick.plan import TickPlan

_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass(frozen=True)
class TickReport:
    """Holds what one tick decided and what became of it.

    Attributes:
        plan: The decisions.
        run_id: The run that the tick requested; ``None`` if it requested none.
        success: Whether that run succeeded; true if there was none.
        executions: How many SQLMesh executions the run started.
        outcomes: What became of each model that the execution dealt with, by ``fqn``.
    """

    plan: TickPlan
    run_id: str | None
    success: bool
    executions: int
    outcomes: Mapping[str, Outcome]

    @classmethod
    def undone(cls, plan: TickPlan) -> TickReport:
        """Returns the report of a tick that requests no run."""
        return cls(plan, None, success=True, executions=0, outcomes={})

    @property
    def failed(self) -> bool:
        """Returns whether a model failed, before the run or in it, or the run did."""
        if self.plan.failed or not self.success:
            return True
        return any(outcome.status in FAILURES for outcome in self.outcomes.values())


class AbortWatch:
    """Remembers why an execution gave up, as its observer, and passes everything on."""

    def __init__(self, inner: Any = None) -> None:
        self.error: BaseException | None = None
        self.inner = inner

    def started(self, models: int) -> None:
        """Passes on that the execution starts."""
        if self.inner is not None:
            self.inner.started(models)

    def finished(self, outcome: Outcome) -> None:
        """Passes on that a model has its outcome."""
        if self.inner is not None:
            self.inner.finished(outcome)

    def ended(self, error: BaseException | None) -> None:
        """Remembers the error and passes it on; nothing follows."""
        self.error = error
        if self.inner is not None:
            self.inner.ended(error)


def run_tick(
    location: Location,
    instance: dg.DagsterInstance,
    plan: TickPlan,
    watch: AbortWatch,
    *,
    simulated: bool,
    say: Callable[[str], None] = lambda line: None,
) -> TickReport:
    """Evaluates the conditions on a plan and executes the run that they ask for, here and now.

    Args:
        location: The environment; ``watch`` is its observer.
        instance: The instance that records the run.
        plan: The decisions.
        watch: Tells why the execution gave up, if it did.
        simulated: Whether the plan is for another moment than now.
        say: Is called with each line about what runs that died left behind, what was evaluated
            outside Dagster, and which definitions are not what the environment holds.

    Raises:
        Unavailable: The execution could not reach a database.
    """
    for line in location.planner.recover(instance):
        say(line)
    for line in location.planner.report_outside(instance, plan):
        say(line)
    for line in location.planner.report_drift(instance, plan):
        say(line)
    repository = location.definitions.get_repository_def()
    with dg.build_sensor_context(instance=instance, repository_def=repository) as context:
        tick = location.sensor.request(context, plan, simulated=simulated)
    if not tick.run_requests:
        return TickReport.undone(plan)
    (request,) = tick.run_requests
    result = _execute(location, instance, request)
    if isinstance(watch.error, Unavailable):
        raise watch.error
    history = read_history(instance, result.run_id, location.index.scope)
    return TickReport(
        plan=plan,
        run_id=result.run_id,
        success=result.success,
        executions=history.executions,
        outcomes=history.outcomes,
    )


def _execute(
    location: Location, instance: dg.DagsterInstance, request: dg.RunRequest
) -> dg.ExecuteInProcessResult:
    """Executes a tick's run in this process."""
    job = location.definitions.resolve_implicit_global_asset_job_def()
    return job.get_subset(
        asset_selection=set(request.asset_selection or ()),
        asset_check_selection=(
            None if request.asset_check_keys is None else set(request.asset_check_keys)
        ),
    ).execute_in_process(
        run_config=_QUIET,
        instance=instance,
        raise_on_error=False,
        tags={**request.tags, PROCESS_TAG: this_process()},
    )


def tick_json(location: Location, report: TickReport) -> dict[str, Any]:
    """Returns a tick as the JSON object that ``sqlmesh-automation tick --json`` prints."""
    audits = _standalone_checks(location, report.outcomes)
    return {
        "environment": report.plan.environment,
        "at": report.plan.state.at.isoformat(),
        "run_id": report.run_id,
        "executions": report.executions,
        "models": [
            _model_json(location, report, fqn, audits.get(fqn, ()))
            for fqn in (model.fqn for model in location.manifest.told)
        ],
    }


def _model_json(
    location: Location, report: TickReport, fqn: str, audits: Sequence[AuditOutcome]
) -> dict[str, Any]:
    """Returns one model of a tick as JSON."""
    decision = report.plan.decisions[fqn]
    outcome = report.outcomes.get(fqn)
    intervals = outcome.intervals if outcome else decision.due.intervals if decision.due else ()
    return {
        "model": decision.name,
        "asset_key": location.index.keys[fqn].to_user_string(),
        "due": decision.is_due,
        "requested": decision.requested,
        "reason": decision.reason,
        "outcome": outcome.status.value if outcome else None,
        "intervals": [[start.isoformat(), end.isoformat()] for start, end in intervals],
        "rows": outcome.rows if outcome else None,
        "duration_ms": outcome.duration_ms if outcome else None,
        "checks": [
            {"name": audit.check, "passed": audit.passed, "blocking": audit.blocking}
            for audit in (*(outcome.audits if outcome else ()), *audits)
        ],
        "error": outcome.error if outcome else decision.held if decision.failed else None,
    }


def _standalone_checks(
    location: Location, outcomes: Mapping[str, Outcome]
) -> dict[str, list[AuditOutcome]]:
    """Returns results of standalone audits, by the ``fqn`` of each model that they read."""
    results: dict[str, list[AuditOutcome]] = {}
    for audit in location.manifest.standalone_audits:
        for fqn in audit.depends_on:
            if audit.fqn in outcomes:
                results.setdefault(fqn, []).extend(outcomes[audit.fqn].audits)
    return results
