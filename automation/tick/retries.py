"""When a model whose runs failed is requested again: a pure function of facts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from ..facts.attempts import counts, next_cron
from ..facts.facts import Facts, Node, spoken


@dataclass(frozen=True, slots=True)
class Retry:
    """What a model's failures mean for it.

    Attributes:
        reason: Why its failures hold the model; empty where they do not.
        at: When they no longer hold it; ``None`` where they do not.
        resumed: The cron tick that it waits for or has waited for after its last attempt.
    """

    reason: str = ""
    at: datetime | None = None
    resumed: datetime | None = None


def retry(node: Node, facts: Facts, zone: ZoneInfo) -> Retry:
    """Why a model's failures hold it.

    - One that failed is requested again after a delay, which doubles each time up to a limit,
      until it has had all its attempts. Then it waits for its next cron tick.
    - One that was not even tried is requested again at once, then after a minute, two, four, up
      to an hour.
    - One whose run a person has cancelled waits for its next cron tick.

    Args:
        node: The model.
        facts: What is known.
        zone: Zone of the times.
    """
    attempts, state, policy = facts.attempts.get(node.fqn, ()), facts.state, node.policy.retry
    row = [attempt for attempt in attempts if counts(node, state.planned_at, attempts[0], attempt)]
    if not row:
        return Retry()
    last, following = row[0], next_cron(node, row[0])
    failed = [attempt for attempt in row if attempt.tried]
    spent = len(failed) >= policy.max_attempts or not last.retried
    if state.at >= following:
        return Retry(resumed=following if spent else None)
    if spent:
        number = f", attempt {len(failed)} of {policy.max_attempts}" if last.retried else ""
        when, again = "at", following
        if (schedule := node.policy.schedule) is not None:
            when, again = "after", schedule.opens(max(facts.since(node), following))
        local = again.astimezone(zone)
        return Retry(
            f"{last.why} in run {last.run_id}{number}; "
            f"tried again {when} its next cron tick, {spoken(local)}",
            at=local,
        )
    untried = next((n for n, attempt in enumerate(row) if attempt.tried), len(row))
    again, what = last.ended + _pause(untried), "tried again"
    if failed:
        delay = min(policy.delay_seconds * 2 ** min(len(failed) - 1, 30), policy.max_delay_seconds)
        again = max(again, failed[0].ended + timedelta(seconds=delay))
        what = f"attempt {len(failed) + 1} of {policy.max_attempts}"
    if state.at >= again:
        return Retry()
    again = min(again, following).astimezone(zone)
    return Retry(f"{last.why} in run {last.run_id}; {what} at {spoken(again)}", at=again)


def _pause(untried: int) -> timedelta:
    """None after the first run, then a minute, two, four, up to an hour."""
    if untried <= 1:
        return timedelta()
    return min(timedelta(minutes=2 ** min(untried - 2, 10)), timedelta(hours=1))
