"""How the command line shows decisions, progress, outcomes and findings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from ...assets.ledger.outcome import Outcome, OutcomeStatus
from ...assets.project.manifest import ManifestModel
from ..facts.facts import spoken, spoken_intervals
from ..facts.past_runs import PastRun
from ..tick.decisions import Decision
from ..tick.plan import TickPlan
from .findings import Finding

if TYPE_CHECKING:
    from ..definitions import Location
    from .explaining import Explanation
    from .ticking import TickReport

_STYLES = {
    OutcomeStatus.EXECUTED: "green",
    OutcomeStatus.FAILED: "red",
    OutcomeStatus.AUDIT_FAILED: "red",
    OutcomeStatus.SKIPPED: "yellow",
    OutcomeStatus.CANCELLED: "yellow",
}


def decisions_table(location: Location, plan: TickPlan, *, only_due: bool) -> Table:
    """Every model with what a tick would do; and how it is automated, where that is set."""
    has_rules = any(policy.origins for policy in location.policies.values())
    table = Table(title=next(plan.lines()), title_justify="left", box=None, pad_edge=False)
    for column in ("model", "kind", "cron", *(["policy"] if has_rules else []), "decision"):
        table.add_column(column, overflow="fold")
    for node in location.manifest.decided:
        decision = plan.decisions[node.fqn]
        if not only_due or decision.due is not None:
            kind = node.kind if isinstance(node, ManifestModel) else "standalone audit"
            cron = " ".join(filter(None, (node.cron, node.cron_tz)))
            policy = ", ".join(location.policies[node.fqn].spoken())
            columns = [node.name, kind, cron, *([policy] if has_rules else [])]
            table.add_row(*columns, _decided(decision))
    return table


def print_warnings(console: Console, warnings: Sequence[str]) -> None:
    """What misleads about the settings, below a table."""
    for warning in warnings:
        console.print(Text(f"warning: {warning}", style="yellow"), soft_wrap=True)


def print_explanation(console: Console, found: Explanation) -> None:
    """All that is known of one model; its times in the zone of the settings."""
    model, state, zone = found.model, found.plan.state, ZoneInfo(found.plan.zone)

    def local(moment: datetime | None) -> str:
        return spoken(moment.astimezone(zone)) if moment else "not known"

    def section(title: str, lines: Sequence[str]) -> None:
        if lines:
            console.print(Text(title, style="bold"))
        for line in lines:
            console.print(Text(f"  {line}"), soft_wrap=True)

    of = f"asset {found.asset_key}, " if found.asset_key else ""
    section(
        model.name,
        [
            f"{found.kind}, {of}cron {model.cron} {model.cron_tz or 'UTC'}",
            f"environment {found.plan.environment} at {local(state.at)}, plan {state.plan_id}, "
            + (f"applied at {local(state.planned_at)}" if state.planned_at else "being applied"),
        ],
    )
    decision = found.decision
    section("Requested" if decision.requested else "Not requested", [decision.reason])
    for verdict in found.verdicts:
        mark, style = _MARKS[verdict.holds]
        reason = f": {verdict.reason}" if verdict.reason else ""
        line = Text("  ").append(mark, style=style).append(f" {verdict.label}{reason}")
        console.print(line, soft_wrap=True)
    section("Intervals", list(_interval_lines(found, local)))
    rules = found.policy.origins
    section(
        "Policy",
        [
            f"{name}: {value} ({rules.get(name, 'default')})"
            for name, value in found.policy.values().items()
        ],
    )
    section("Upstream", [f"{name}: {said}" for name, said in found.upstream.items()])
    section("Last runs", [_run_line(found, run, local(run.at)) for run in found.runs] or ["none"])
    following = {
        "cron elapses": found.next.cron,
        "schedule fires": found.next.schedule,
        "schedule fires after that cron tick": found.next.request,
        "failures no longer hold it": found.next.retry,
    }
    section("Next", [f"{what}: {local(at)}" for what, at in following.items() if at] or ["nothing"])


def _interval_lines(found: Explanation, local: Callable[[datetime | None], str]) -> Iterator[str]:
    """What is due and what is recorded."""
    due = found.decision.due
    if due is not None and due.intervals:
        since = f", since {local(due.since)}" if due.since else ", of an interval in progress"
        yield f"due: {spoken_intervals(due.intervals)}{since}"
    else:
        yield "due: none"
    if found.recorded is None or not found.recorded[1]:
        yield "recorded by SQLMesh: none"
    else:
        snapshot, intervals = found.recorded
        earlier = f", and {len(intervals) - 1} earlier" if len(intervals) > 1 else ""
        yield f"recorded by SQLMesh: {spoken_intervals(intervals[-1:])}{earlier} ({snapshot})"


def _run_line(found: Explanation, run: PastRun, at: str) -> str:
    number = found.attempts.get(run.run_id)
    of = found.policy.retry.max_attempts
    attempt = f", attempt {number} of {of}" if number else ""
    return f"{at} run {run.run_id}{attempt}: {run.text}"


_MARKS = {True: ("yes", "green"), False: ("no ", "red"), None: (" - ", "dim")}


def print_decisions(console: Console, plan: TickPlan) -> None:
    """What is due and what the tick does about it."""
    console.print(Text(next(plan.lines()), style="bold"))
    for decision in plan.decisions.values():
        if decision.due is None:
            continue
        console.print(Text(f"  {decision.name:<32}").append(_decided(decision)), soft_wrap=True)
    if not plan.requested:
        console.print(Text(f"  {plan.skip_message}", style="dim"), soft_wrap=True)


def print_outcomes(console: Console, report: TickReport) -> None:
    """What became of each model."""
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
    """What the doctor found."""
    marks = {"ok": ("ok", "green"), "advice": (" !", "yellow"), "problem": ("!!", "red")}
    for finding in findings:
        mark, style = marks[finding.level]
        console.print(
            Text(f"{mark} ", style=style).append(finding.text, style="default"), soft_wrap=True
        )
        if finding.cure:
            console.print(Text(f"   {finding.cure}", style="yellow"), soft_wrap=True)


class ProgressBar:
    """An observer that draws an execution's progress."""

    def __init__(self, console: Console) -> None:
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
        """The execution starts."""
        self._task = self._progress.add_task("SQLMesh starts", total=models)
        self._progress.start()

    def finished(self, outcome: Outcome) -> None:
        """A model has its outcome."""
        self._progress.update(self._task, advance=1, description=outcome.name)

    def ended(self, error: BaseException | None) -> None:
        """Nothing follows."""
        self._progress.stop()


def _decided(decision: Decision) -> Text:
    if decision.requested:
        assert decision.due is not None
        return Text(f"requested: {spoken_intervals(decision.due.intervals)}", style="green")
    style = "yellow" if decision.due is not None else "dim"
    return Text(decision.reason, style=style)
