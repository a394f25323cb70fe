"""Decides when a model whose runs failed is requested again: a pure function."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from ...config.rules import RetrySettings
from ..facts.attempts import counts, next_cron
from ..facts.facts import Attempt, Facts, Node, spoken


@dataclass(frozen=True, slots=True)
class Retry:
    """Says what a model's failures mean for it.

    Attributes:
        reason: Why they hold it; empty if they do not.
        at: When they no longer hold it; ``None`` if they do not.
        resumed: The cron tick that it waits for, or has waited for, after its last attempt.
    """

    reason: str = ""
    at: datetime | None = None
    resumed: datetime | None = None


def retry(node: Node, facts: Facts, zone: ZoneInfo) -> Retry:
    """Decides whether a model's failures hold it.

    - One that failed is requested again after a delay, which doubles each time up to a limit,
      until it has had all its attempts. Then it waits for its next cron tick.
    - One that was not even tried is requested again at once, then after a minute, two, four, up
      to an hour.
    - One whose run a person has cancelled waits for its next cron tick.

    Args:
        node: The model.
        facts: What the tick has read.
        zone: The zone of the times.
    """
    attempts = facts.attempts.get(node.fqn, ())
    row = [a for a in attempts if counts(node, facts.state.planned_at, attempts[0], a)]
    if not row:
        return Retry()
    last, following = row[0], next_cron(node, row[0])
    failures = [attempt for attempt in row if attempt.tried]
    spent = len(failures) >= node.policy.retry.max_attempts or not last.retried
    if facts.state.at >= following:
        return Retry(resumed=following if spent else None)
    if spent:
        return _waits_for_cron(node, facts, row, zone)
    again = _again(row, node.policy.retry)
    if facts.state.at >= again:
        return Retry()
    again = min(again, following).astimezone(zone)
    number = f"attempt {len(failures) + 1} of {node.policy.retry.max_attempts}"
    what = number if failures else "tried again"
    return Retry(f"{last.why} in run {last.run_id}; {what} at {spoken(again)}", at=again)


def _waits_for_cron(node: Node, facts: Facts, row: Sequence[Attempt], zone: ZoneInfo) -> Retry:
    """Returns why a model that has no attempt left waits for its cron, or the schedule after."""
    last, following = row[0], next_cron(node, row[0])
    failures = sum(attempt.tried for attempt in row)
    number = f", attempt {failures} of {node.policy.retry.max_attempts}" if last.retried else ""
    when, again = "at", following
    if (schedule := node.policy.schedule) is not None:
        when, again = "after", schedule.opens(max(facts.since(node), following))
    local = again.astimezone(zone)
    return Retry(
        f"{last.why} in run {last.run_id}{number}; "
        f"tried again {when} its next cron tick, {spoken(local)}",
        at=local,
    )


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
