"""How the command line shows decisions, progress, outcomes and findings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from ..assets.outcome import Outcome, OutcomeStatus
from .decisions import Decision
from .facts import spoken_intervals
from .tick_plan import TickPlan

if TYPE_CHECKING:
    from .definitions import Location
    from .doctor import Finding
    from .ticking import TickReport

_STYLES = {
    OutcomeStatus.EXECUTED: "green",
    OutcomeStatus.FAILED: "red",
    OutcomeStatus.AUDIT_FAILED: "red",
    OutcomeStatus.SKIPPED: "yellow",
    OutcomeStatus.CANCELLED: "yellow",
}


def decisions_table(location: Location, plan: TickPlan, *, only_due: bool) -> Table:
    """Every model with what a tick would do."""
    table = Table(title=next(plan.lines()), title_justify="left", box=None, pad_edge=False)
    for column in ("model", "kind", "cron", "decision"):
        table.add_column(column, overflow="fold")
    for model in location.manifest.executed:
        decision = plan.decisions[model.fqn]
        if not only_due or decision.due is not None:
            cron = " ".join(filter(None, (model.cron, model.cron_tz)))
            table.add_row(model.name, model.kind, cron, _decided(decision))
    for audit in location.manifest.standalone_audits:
        decision = plan.decisions[audit.fqn]
        if not only_due or decision.due is not None:
            table.add_row(audit.name, "standalone audit", audit.cron, _decided(decision))
    return table


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
    for finding in findings:
        mark, style = ("ok", "green") if finding.good else ("!!", "red")
        console.print(Text(f"{mark} ", style=style).append(finding.text, style="default"))
        if finding.cure:
            console.print(Text(f"   {finding.cure}", style="yellow"))


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
