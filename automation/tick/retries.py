"""Decides when a model that is due after a run is requested again: a pure function."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from ...config.rules import RetrySettings
from ..facts.attempts import is_unrecorded, next_cron, paced_until, row_of
from ..facts.facts import Attempt, Facts, Node
from . import reasons
from .reasons import Reason


@dataclass(frozen=True, slots=True)
class Retry:
    """Says what a model's last runs mean for it.

    Attributes:
        reason: Why they hold it; ``None`` if they do not.
        unrecorded: Why it is held although it was evaluated; ``None`` if it was not.
        at: When they no longer hold it; ``None`` if they do not.
        resumed: The cron tick that it waits for, or has waited for, after its last attempt.
    """

    reason: Reason | None = None
    unrecorded: Reason | None = None
    at: datetime | None = None
    resumed: datetime | None = None


def retry(node: Node, facts: Facts, zone: ZoneInfo) -> Retry:
    """Decides whether a model's last runs hold it.

    - One that failed is requested again after a delay, which doubles each time up to a limit,
      until it has had all its attempts. Then it waits for its next cron tick.
    - One whose run ended in any other way without evaluating it is requested again at once, then
      after a minute, two, four, up to an hour.
    - One whose run evaluated other intervals than those that are due goes on at once, or a minute
      after that run if it was not the first since the model's last cron tick.
    - One whose run a person has cancelled waits for its next cron tick.
    - One of which a run has evaluated all that is due waits for its next cron tick: SQLMesh has
      not recorded it, and would evaluate the same at every tick.

    Args:
        node: The model, which is due.
        facts: What the tick has read.
        zone: The zone of the times.
    """
    attempts = facts.attempts.get(node.fqn, ())
    row = row_of(node, facts.state, attempts)
    if not row:
        return _paced(node, facts, attempts, zone)
    last, following = row[0], next_cron(node, row[0])
    failures = [attempt for attempt in row if attempt.tried]
    repeats = is_unrecorded(node, facts.state, last)
    if repeats and last.ended > facts.state.at:
        # SQLMesh's state was read before the run's end.
        return Retry(reasons.just_evaluated(last.run_id))
    spent = len(failures) >= node.policy.retry.max_attempts or not last.retried or repeats
    if facts.state.at >= following:
        return Retry(resumed=following if spent else None)
    if spent:
        return _waits_for_cron(node, facts, row, zone)
    again = _again(row, node.policy.retry)
    if facts.state.at >= again:
        return Retry()
    again = min(again, following).astimezone(zone)
    most = node.policy.retry.max_attempts
    return Retry(reasons.retried(last, len(failures), most, again, facts.state.at), at=again)


def _paced(node: Node, facts: Facts, attempts: Sequence[Attempt], zone: ZoneInfo) -> Retry:
    """Returns why a model waits whose last run evaluated something else than what is due."""
    until = paced_until(node, facts.state, attempts)
    if until is None or facts.state.at >= until:
        return Retry()
    again = min(until, next_cron(node, attempts[0])).astimezone(zone)
    return Retry(reasons.goes_on(attempts[0].run_id, again, facts.state.at), at=again)


def _waits_for_cron(node: Node, facts: Facts, row: Sequence[Attempt], zone: ZoneInfo) -> Retry:
    """Returns why a model is not tried before its next cron tick, or the schedule after that."""
    last, following, at = row[0], next_cron(node, row[0]), facts.state.at
    again, schedule = following, node.policy.schedule
    if schedule is not None:
        again = schedule.opens(max(facts.since(node), following))
    local, scheduled = again.astimezone(zone), schedule is not None
    if is_unrecorded(node, facts.state, last):
        unrecorded = reasons.unrecorded(last, local, at, scheduled=scheduled)
        return Retry(unrecorded=unrecorded, at=local)
    failures, most = sum(attempt.tried for attempt in row), node.policy.retry.max_attempts
    reason = reasons.retried_at_cron(last, failures, most, local, at, scheduled=scheduled)
    return Retry(reason, at=local)


def _again(row: Sequence[Attempt], policy: RetrySettings) -> datetime:
    """Returns when a model that has attempts left is tried again, whatever its cron."""
    untried = next((number for number, attempt in enumerate(row) if attempt.tried), len(row))
    again = row[0].ended + _pause(untried)
    failures = [attempt for attempt in row if attempt.tried]
    if not failures:
        return again
    doublings = min(len(failures) - 1, 30)
    delay = min(policy.delay_seconds * 2**doublings, policy.max_delay_seconds)
    return max(again, failures[0].ended + timedelta(seconds=delay))


def _pause(untried: int) -> timedelta:
    """Returns none after the first run, then a minute, two, four, up to an hour."""
    if untried <= 1:
        return timedelta()
    return min(timedelta(minutes=2 ** min(untried - 2, 10)), timedelta(hours=1))
