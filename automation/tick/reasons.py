"""Why models are held or not due, each in two forms: short for Dagster's tree, whole for logs.

The short form says why and until when first; :mod:`.fitting` has how long it may be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from ...assets.intervals import spoken_end, spoken_start
from ...config.cron import Schedule
from ..facts.facts import Attempt, Due, Limits, spoken, spoken_intervals
from .fitting import PILL, about, clock, cut, dated, joined, short_id, span


@dataclass(frozen=True, slots=True)
class Reason:
    """Says in two forms why a model is held, or is not due.

    Attributes:
        short: What a person came for first: why, and until when.
        whole: The sentence, as the tick's log and ``explain`` have it.
        until: What ends it in a word or a time, for what waits for the model; may be empty.
    """

    short: str
    whole: str
    until: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "short", cut(self.short, PILL))

    def __str__(self) -> str:
        return self.whole


UNAUTOMATED = Reason(
    "has no automation condition",
    "not automated: its asset has no automation condition",
    "not automated",
)
WITHHELD = Reason(
    "held by a condition of yours", "by what was added to its automation condition", "held"
)
"""Why a model is held that nothing of SQLMesh's holds."""

AUDITED_WITH_READERS = Reason("audited with what reads it", "it is audited with what reads it")
UNPLANNED = Reason("a plan has to add it", "not in the SQLMesh environment: a plan has to add it")
UNKNOWN = Reason(
    "not in this SQLMesh environment", "not in this code location's SQLMesh environment"
)
UP_TO_DATE = Reason("up to date", "up to date")


def plan_unfinished(plan_id: str, sentence: str) -> Reason:
    """Holds everything: the environment's plan is being applied."""
    return Reason(f"plan {short_id(plan_id)} is being applied", sentence)


def paused(origin: str) -> Reason:
    """Holds a model that a setting pauses."""
    return Reason(about("paused by ", origin), f"paused by {origin}", "paused")


def outside_schedule(schedule: Schedule, opens: datetime, at: datetime, zone: ZoneInfo) -> Reason:
    """Holds a model until its schedule fires; in short in the schedule's own zone."""
    when = clock(opens.astimezone(ZoneInfo(schedule.tz)), at)
    whole = f"its schedule {schedule} fires at {spoken(opens.astimezone(zone))}"
    return Reason(f"opens {when}", whole, when)


def requested_lately(gap: timedelta, until: datetime, at: datetime) -> Reason:
    """Holds a model until the least gap between two requests is over."""
    when = clock(until, at)
    whole = f"at most one request in {gap}; not before {spoken(until)}"
    return Reason(f"least gap until {when}", whole, when)


def being_evaluated(run_id: str) -> Reason:
    """Holds a model that a run is evaluating."""
    return Reason(
        f"run {short_id(run_id)} is evaluating it", f"run {run_id} is evaluating it", "running"
    )


def read_by_run(name: str, run_id: str) -> Reason:
    """Holds what a model reads that a run is evaluating."""
    short = joined(about("reader ", name, " runs"), f", {short_id(run_id)}")
    return Reason(short, f"run {run_id} is evaluating {name}, which reads it", "running")


def upstream_running(name: str, run_id: str) -> Reason:
    """Holds what reads a model that a run is evaluating."""
    whole = f"upstream {name} is being evaluated by run {run_id}"
    return Reason(about("waits for ", name, " (running)"), whole, "running")


def upstream_failed(name: str, why: str) -> Reason:
    """Holds what reads a model of which nobody can tell whether it is ready."""
    return Reason(
        about("waits for ", name, " (failed)"), f"upstream {name} failed: {why}", "failed"
    )


def upstream_held(name: str, reason: Reason) -> Reason:
    """Holds what reads a model that is due and held itself."""
    until, whole = reason.until, f"upstream {name} is held: {reason}"
    candidates = (about("waits for ", name, f" ({until})"), about("", name, f": {until}"))
    fits = (text for text in candidates if until and until in text)
    return Reason(next(fits, about("waits for ", name)), whole, until)


def upstream_withheld(name: str) -> Reason:
    """Holds what reads an asset that a user's own condition holds."""
    whole = f"upstream {name} is due and held by its own condition"
    return Reason(about("waits for ", name, " (held)"), whole, "held")


def unready(why: str) -> Reason:
    """Holds a model of which nobody can tell whether it is ready, such as a signal that raises."""
    what, colon, _ = why.partition(": ")
    short = f"{cut(what, PILL - len(' failed'))} failed" if colon else why
    return Reason(short, why, "failed")


def retried(last: Attempt, failures: int, most: int, again: datetime, at: datetime) -> Reason:
    """Holds a model that its last run left due, until the next attempt.

    Args:
        last: Its last run.
        failures: How many runs in a row have failed to evaluate it.
        most: How many may.
        again: When it is tried again.
        at: The moment of the tick.
    """
    when, number = clock(again, at), f"{failures + 1} of {most}"
    short = joined(f"retry {when}", f" ({number if failures else last.why})", _run(last))
    what = f"attempt {number}" if failures else "tried again"
    return Reason(
        short,
        f"{last.why} in run {last.run_id}; {what} at {spoken(again)}",
        when,
    )


def retried_at_cron(
    last: Attempt, failures: int, most: int, again: datetime, at: datetime, *, scheduled: bool
) -> Reason:
    """Holds a model that has used all its attempts, or was cancelled, until its next cron tick.

    Args:
        last: Its last run.
        failures: How many runs in a row have failed to evaluate it.
        most: How many may.
        again: When it is tried again.
        at: The moment of the tick.
        scheduled: Whether its schedule follows that cron tick.
    """
    when = clock(again, at)
    number = f", attempt {failures} of {most}" if last.retried else ""
    why = f"{failures} failed" if last.retried else last.why
    return Reason(
        joined(f"retry {when}", f" ({why})", _run(last)),
        f"{last.why} in run {last.run_id}{number}; {_at_cron(again, scheduled)}",
        when,
    )


def unrecorded(last: Attempt, again: datetime, at: datetime, *, scheduled: bool) -> Reason:
    """Holds a model of which a run has evaluated all that is due and SQLMesh records nothing."""
    when = clock(again, at)
    return Reason(
        joined(f"retry {when}", " (unrecorded)", _run(last)),
        f"evaluated in run {last.run_id}, and SQLMesh did not record it; "
        f"{_at_cron(again, scheduled)}",
        when,
    )


def just_evaluated(run_id: str) -> Reason:
    """Holds a model until the next tick, as SQLMesh's state was read before the run's end."""
    whole = f"run {run_id} has just evaluated it"
    return Reason(f"just evaluated by run {short_id(run_id)}", whole, "next tick")


def goes_on(run_id: str, again: datetime, at: datetime) -> Reason:
    """Holds a model for a minute of which a run evaluated a part."""
    when = clock(again, at)
    whole = f"run {run_id} evaluated a part; goes on at {spoken(again)}"
    return Reason(joined(f"goes on {when}", f" after run {short_id(run_id)}"), whole, when)


def only_lookback(due: Due) -> Reason:
    """Holds a model of which only the lookback is ready, which every tick would evaluate again."""
    return Reason(_awaited(due), f"only its lookback is ready: {due.waiting}")


def runs_at_limit(runs: Sequence[str], limits: Limits) -> Reason:
    """Holds a model while as many runs as are allowed are in progress."""
    verb, more = ("is", "") if len(runs) == 1 else ("are", f" +{len(runs) - 1}")
    whole = (
        f"run {', '.join(runs)} {verb} in progress, and {limits.executions} at once is the limit"
    )
    short = f"runs at limit ({limits.executions}): {short_id(runs[0])}{more}"
    return Reason(short, whole, "run limit")


def run_is_full(limits: Limits) -> Reason:
    """Holds a model that the tick's run has no place for."""
    whole = f"this tick's run has its {limits.models} models ({limits.setting})"
    return Reason(f"next run: this one has {limits.models}", whole, "next run")


def goes_after(name: str) -> Reason:
    """Holds a model that has had its turn, for one that has waited longer."""
    whole = f"{name} has waited longer, and goes first"
    return Reason(about("", name, " goes first"), whole, "next run")


def due_now(due: Due) -> Reason:
    """Says what is due of a model."""
    return Reason(f"due {span(due.intervals)}", f"due: {spoken_intervals(due.intervals)}")


def waiting(due: Due) -> Reason:
    """Says what a model waits for whose cron has elapsed."""
    return Reason(_awaited(due), f"not ready: {due.waiting}")


def next_interval(at: datetime) -> Reason:
    """Says when the next interval is due of a model that is up to date."""
    return Reason(f"next {dated(at)}", f"up to date; next interval at {spoken(at)}")


def not_started(starts: datetime, following: datetime | None) -> Reason:
    """Says when a model starts."""
    then = f"; next interval at {spoken(following)}" if following else ""
    return Reason(f"starts {spoken_start(starts)}", f"starts on {spoken_start(starts)}{then}")


def has_ended(end: datetime) -> Reason:
    """Says after when nothing of a model is evaluated."""
    last = spoken_end(end)
    return Reason(f"nothing after {last}", f"up to date; evaluates nothing after {last}")


def _at_cron(again: datetime, scheduled: bool) -> str:
    return f"tried again {'after' if scheduled else 'at'} its next cron tick, {spoken(again)}"


def _run(attempt: Attempt) -> str:
    return f", run {short_id(attempt.run_id)}"


def _awaited(due: Due) -> str:
    if due.signal_of:
        return about("waits for ", due.signal_of, " (signal)")
    if due.signal:
        text = f"waits for signal {due.signal}"
        return text if len(text) <= PILL else about("signal ", due.signal)
    return "waits for upstream"
