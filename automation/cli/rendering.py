"""The command line prints decisions, progress, outcomes and findings with these functions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from ...assets.definitions.policy import Policy
from ...assets.ledger.outcome import Outcome, OutcomeStatus
from ..facts.facts import spoken, spoken_intervals
from ..facts.past_runs import PastRun
from ..tick.decision import Decision
from ..tick.plan import TickPlan
from .findings import Finding
from .interval_bar import interval_bar
from .working import Working

if TYPE_CHECKING:
    from .explaining import Explanation, Moments
    from .ticking import TickReport

_Clock = Callable[[datetime | None], str]
"""Shows a moment in the zone of the settings."""

_STYLES = {
    OutcomeStatus.EXECUTED: "green",
    OutcomeStatus.FAILED: "red",
    OutcomeStatus.AUDIT_FAILED: "red",
    OutcomeStatus.SKIPPED: "yellow",
    OutcomeStatus.CANCELLED: "yellow",
}


def print_warnings(console: Console, warnings: Sequence[str]) -> None:
    """Prints what misleads about the settings, below a table."""
    for warning in warnings:
        console.print(Text(f"warning: {warning}", style="yellow"), soft_wrap=True)


def print_explanation(console: Console, explanation: Explanation) -> None:
    """Prints all that is known of one model; times are in the zone of the settings."""
    zone = ZoneInfo(explanation.plan.zone)

    def local(moment: datetime | None) -> str:
        return spoken(moment.astimezone(zone)) if moment else "not known"

    def section(title: str, lines: Sequence[str]) -> None:
        if lines:
            console.print(Text(title, style="bold"))
        for line in lines:
            console.print(Text(f"  {line}"), soft_wrap=True)

    decision = explanation.decision
    section(explanation.model.name, _head_lines(explanation, local))
    section("Requested" if decision.requested else "Not requested", [decision.reason])
    for verdict in explanation.verdicts:
        mark, style = _MARKS[verdict.holds]
        reason = f": {verdict.reason}" if verdict.reason else ""
        line = Text("  ").append(mark, style=style).append(f" {verdict.label}{reason}")
        console.print(line, soft_wrap=True)
    section("Intervals", list(_interval_lines(explanation, local, console.options.ascii_only)))
    section("Policy", _policy_lines(explanation.policy))
    section("Upstream", [f"{name}: {line}" for name, line in explanation.upstream.items()])
    runs = [_run_line(explanation, run, local(run.at)) for run in explanation.runs]
    section("Last runs", runs or ["none"])
    section("Next", _next_lines(explanation.next, local) or ["nothing"])


def _head_lines(explanation: Explanation, local: _Clock) -> list[str]:
    """Returns what the model and the environment are."""
    plan, model = explanation.plan, explanation.model
    asset = f"asset {explanation.asset_key}, " if explanation.asset_key else ""
    planned_at = plan.state.planned_at
    applied = f"applied at {local(planned_at)}" if planned_at else "being applied"
    at = local(plan.state.at)
    return [
        f"{explanation.kind}, {asset}cron {model.cron} {model.cron_tz or 'UTC'}",
        f"environment {plan.environment} at {at}, plan {plan.state.plan_id}, {applied}",
    ]


def _interval_lines(explanation: Explanation, local: _Clock, ascii_only: bool) -> Iterator[str]:
    """Yields what is due and what is recorded."""
    due = explanation.decision.due
    if due is not None and due.intervals:
        since = f", since {local(due.since)}" if due.since else ", of an interval in progress"
        yield f"due: {spoken_intervals(due.intervals)}{since}"
    else:
        yield "due: none"
    if explanation.recorded is None or not explanation.recorded[1].ranges:
        yield "recorded by SQLMesh: none"
    else:
        snapshot, record = explanation.recorded
        intervals = record.ranges
        earlier = f", and {len(intervals) - 1} earlier" if len(intervals) > 1 else ""
        yield f"recorded by SQLMesh: {spoken_intervals(intervals[-1:])}{earlier} ({snapshot})"
    if explanation.recorded is not None:
        yield from interval_bar(explanation.recorded[1], ascii_only=ascii_only)


def _policy_lines(policy: Policy) -> list[str]:
    """Returns how the model is automated, and what set each value."""
    return [
        f"{name}: {value} ({policy.origins.get(name, 'default')})"
        for name, value in policy.values().items()
    ]


def _next_lines(moments: Moments, local: _Clock) -> list[str]:
    """Returns what happens next, of what is known to happen."""
    following = {
        "cron elapses": moments.cron,
        "schedule fires": moments.schedule,
        "schedule fires after that cron tick": moments.request,
        "failures no longer hold it": moments.retry,
    }
    return [f"{event}: {local(at)}" for event, at in following.items() if at]


def _run_line(explanation: Explanation, run: PastRun, at: str) -> str:
    """Returns one of the last runs, in one line."""
    number = explanation.attempts.get(run.run_id)
    of = explanation.policy.retry.max_attempts
    attempt = f", attempt {number} of {of}" if number else ""
    return f"{at} run {run.run_id}{attempt}: {run.text}"


_MARKS = {True: ("yes", "green"), False: ("no ", "red"), None: (" - ", "dim")}


def print_decisions(console: Console, plan: TickPlan) -> None:
    """Prints what is due and what the tick does about it."""
    console.print(Text(plan.title, style="bold"))
    for decision in plan.decisions.values():
        if decision.due is None:
            continue
        console.print(Text(f"  {decision.name:<32}").append(decided(decision)), soft_wrap=True)
    if not plan.requested:
        console.print(Text(f"  {plan.skip_message}", style="dim"), soft_wrap=True)


def print_outcomes(console: Console, report: TickReport) -> None:
    """Prints what became of each model."""
    for outcome in report.outcomes.values():
        style = _STYLES.get(outcome.status, "dim")
        console.print(Text("  ").append(outcome.summary(), style=style), soft_wrap=True)
        for audit in outcome.audits:
            if not audit.passed:
                kind = "blocking" if audit.blocking else "non-blocking"
                console.print(
                    Text(f"    {kind} audit {audit.check}: {audit.count:,} rows", style="yellow")
                )
    executions = f"{report.executions} SQLMesh execution{'s' * (report.executions != 1)}"
    result = "succeeded" if not report.failed else "failed"
    console.print(Text(f"  run {report.run_id} {result}, {executions}", style="bold"))


def print_findings(console: Console, findings: Sequence[Finding]) -> None:
    """Prints the doctor's findings."""
    marks = {"ok": ("ok", "green"), "advice": (" !", "yellow"), "problem": ("!!", "red")}
    for finding in findings:
        mark, style = marks[finding.level]
        console.print(
            Text(f"{mark} ", style=style).append(finding.text, style="default"), soft_wrap=True
        )
        if finding.cure:
            console.print(Text(f"   {finding.cure}", style="yellow"), soft_wrap=True)


class ProgressBar:
    """Draws an execution's progress as its observer."""

    def __init__(self, console: Console, working: Working) -> None:
        self._working = working
        self._progress = Progress(
            TextColumn("  {task.description:<32}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("models"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )

    def started(self, models: int) -> None:
        """Shows that the execution starts."""
        self._working.printing()
        self._task = self._progress.add_task("SQLMesh starts", total=models)
        self._progress.start()

    def finished(self, outcome: Outcome) -> None:
        """Counts a model that has its outcome."""
        self._progress.update(self._task, advance=1, description=outcome.name)

    def ended(self, error: BaseException | None) -> None:
        """Takes the bar away; what follows is the end of the run."""
        self._progress.stop()
        self._working("recording the end of the run")


def decided(decision: Decision) -> Text:
    """Returns what a tick does with a model, and why not."""
    if decision.requested:
        assert decision.due is not None
        return Text(f"requested: {spoken_intervals(decision.due.intervals)}", style="green")
    style = "red" if decision.failed else "yellow" if decision.due is not None else "dim"
    return Text(decision.reason, style=style)
