"""What the end of a run means for a model that it was to evaluate, and which of these count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import takewhile

from ...assets.intervals import Interval, contiguous
from ...assets.ledger.outcome import FAILURES, Outcome, OutcomeStatus
from ...config.cron import next_tick
from .facts import Attempt, Due, DueState, Node

PACE = timedelta(minutes=1)
"""The least time between runs that get somewhere and leave a model due."""


@dataclass(frozen=True, slots=True)
class EndedRun:
    """A run that has ended.

    Attributes:
        run_id: The Dagster run.
        at: The moment for which the run was done, aware.
        started: When it started by the clock on the wall, aware; the same but for simulated runs.
        ended: When it ended, aware; for a simulated run the moment for which it was done.
        cancelled: Whether it was cancelled.
    """

    run_id: str
    at: datetime
    started: datetime
    ended: datetime
    cancelled: bool = False


def attempt_of(run: EndedRun, outcome: Outcome | None) -> Attempt:
    """Returns what a run's end means for a model that it was to evaluate.

    Every end is an attempt. Whether SQLMesh failed, evaluated nothing or evaluated what it still
    holds due, another run at once would most likely end the same way; so whatever is not known
    here to be a failure or a cancellation counts as not tried.

    Args:
        run: The run.
        outcome: What the run's ledger has of the model; ``None`` if it has nothing.
    """
    why, tried, retried = "not evaluated", False, True
    evaluated: tuple[Interval, ...] = ()
    if outcome is None:
        if run.cancelled:
            why, tried, retried = "cancelled", True, False
    elif outcome.status is OutcomeStatus.CANCELLED:
        why, tried, retried = "cancelled", True, False
    elif outcome.status in FAILURES:
        if not outcome.unreachable:
            why, tried = _failure(outcome), True
    elif outcome.status is OutcomeStatus.EXECUTED:
        evaluated = contiguous(outcome.intervals)
        if evaluated:
            why = "evaluated"
    else:
        why = str(outcome.status).replace("_", " ")
    return Attempt(
        run_id=run.run_id,
        at=run.at,
        started=run.started,
        ended=run.ended,
        why=why,
        tried=tried,
        retried=retried,
        evaluated=evaluated,
    )


def row_of(node: Node, state: DueState, attempts: Sequence[Attempt]) -> list[Attempt]:
    """Returns the attempts that count against what is due of a model, newest first.

    A row is what lies between two cron ticks of the model: with the next one SQLMesh holds other
    intervals due. It ends at an attempt that got somewhere.

    Args:
        node: The model, which is due.
        state: What SQLMesh holds due.
        attempts: The last runs that were to evaluate it, newest first.
    """
    between = _between_ticks(node, state, attempts)
    return [*takewhile(lambda each: not _advanced(state.due[node.fqn], each, between), between)]


def paced_until(node: Node, state: DueState, attempts: Sequence[Attempt]) -> datetime | None:
    """Returns when a model is requested anew whose last run got somewhere; ``None`` if now.

    Runs that evaluate one thing after the other and never what is due, such as those of a signal
    that releases its intervals in small portions, follow each other a minute apart.

    Args:
        node: The model, which is due.
        state: What SQLMesh holds due.
        attempts: The last runs that were to evaluate it, newest first.
    """
    due = state.due[node.fqn]
    between = _between_ticks(node, state, attempts)
    if len(between) < 2 or due.since is None or due.only_lookback:
        return None
    return between[0].ended + PACE if _advanced(due, between[0], between) else None


def _between_ticks(node: Node, state: DueState, attempts: Sequence[Attempt]) -> list[Attempt]:
    return [*takewhile(lambda attempt: may_count(node, state, attempts[0], attempt), attempts)]


def _advanced(due: Due, attempt: Attempt, row: Sequence[Attempt]) -> bool:
    """Returns whether an attempt got somewhere: it evaluated something else than what is due."""
    if not attempt.evaluated:
        return False
    if due.since is None or due.only_lookback:
        # A model that allows partial intervals is due at every tick, by its own word. What only
        # repeats a lookback is held by that.
        return True
    others = (other.evaluated for other in row if other is not attempt)
    return not any(_overlap(attempt.evaluated, each) for each in (due.intervals, *others))


def may_count(node: Node, state: DueState, newest: Attempt, attempt: Attempt) -> bool:
    """Returns whether an attempt is in the same row as the newest, for all that is known of it."""
    return is_timely(node, state, attempt.at, attempt.started) and (
        next_cron(node, attempt) == next_cron(node, newest)
    )


def is_timely(node: Node, state: DueState, at: datetime, started: datetime) -> bool:
    """Returns whether a run is later than the plan, and than the moment since a model is due.

    Args:
        node: The model, which is due.
        state: What SQLMesh holds due.
        at: The moment for which the run was done.
        started: When the run started by the clock on the wall.
    """
    since = state.due[node.fqn].since
    if state.planned_at is not None and started < state.planned_at:
        return False
    return since is None or at >= since


def is_unrecorded(node: Node, state: DueState, attempt: Attempt) -> bool:
    """Returns whether an attempt that counts has evaluated all that is due."""
    return bool(attempt.evaluated) and all(
        any(start <= due_start and due_end <= end for start, end in attempt.evaluated)
        for due_start, due_end in state.due[node.fqn].intervals
    )


def _overlap(first: Sequence[Interval], second: Sequence[Interval]) -> bool:
    return any(start < end_ and start_ < end for start, end in first for start_, end_ in second)


def _failure(outcome: Outcome) -> str:
    """Returns how a model failed; the audits that stopped it are named."""
    audits = [audit.check for audit in outcome.audits if audit.blocking and not audit.passed]
    if outcome.status is OutcomeStatus.AUDIT_FAILED and audits:
        return f"audit{'s' * (len(audits) > 1)} {', '.join(audits)} failed"
    return outcome.status.value.replace("_", " ")


def next_cron(node: Node, attempt: Attempt) -> datetime:
    """Returns the first tick of a model's cron after the moment for which an attempt was made."""
    return next_tick(node.cron, attempt.at, node.cron_tz)
