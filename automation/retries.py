"""When a model whose runs failed is requested again: a pure function of facts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from ..config.cron import next_tick
from .facts import Attempt, Facts, Node, spoken


def counts(node: Node, planned_at: datetime | None, newest: Attempt, attempt: Attempt) -> bool:
    """Whether an attempt counts: one after the last plan, in the same row as the newest.

    A row is what lies between two cron ticks of the model: with the next one SQLMesh holds other
    intervals due.
    """
    if planned_at is not None and planned_at > attempt.started:
        return False
    return _next_cron(node, attempt) == _next_cron(node, newest)


def _next_cron(node: Node, attempt: Attempt) -> datetime:
    return next_tick(node.cron, attempt.at, node.cron_tz)


@dataclass(frozen=True, slots=True)
class Retry:
    """What a model's failures mean for it.

    Attributes:
        reason: Why they hold it; empty where they do not.
        at: When they no longer do, where they do.
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
    given, state, policy = facts.attempts.get(node.fqn, ()), facts.state, node.policy.retry
    row = [each for each in given if counts(node, state.planned_at, given[0], each)]
    if not row:
        return Retry()
    last, next_cron = row[0], _next_cron(node, row[0])
    failed = [each for each in row if each.tried]
    spent = len(failed) >= policy.max_attempts or not last.retried
    if state.at >= next_cron:
        return Retry(resumed=next_cron if spent else None)
    if spent:
        number = f", attempt {len(failed)} of {policy.max_attempts}" if last.retried else ""
        when, again = "at", next_cron
        if (schedule := node.policy.schedule) is not None:
            when, again = "after", schedule.opens(max(facts.since(node), next_cron))
        local = again.astimezone(zone)
        return Retry(
            f"{last.why} in run {last.run_id}{number}; "
            f"tried again {when} its next cron tick, {spoken(local)}",
            at=local,
        )
    untried = next((n for n, each in enumerate(row) if each.tried), len(row))
    again, what = last.ended + _pause(untried), "tried again"
    if failed:
        delay = min(policy.delay_seconds * 2 ** min(len(failed) - 1, 30), policy.max_delay_seconds)
        again = max(again, failed[0].ended + timedelta(seconds=delay))
        what = f"attempt {len(failed) + 1} of {policy.max_attempts}"
    if state.at >= again:
        return Retry()
    again = min(again, next_cron).astimezone(zone)
    return Retry(f"{last.why} in run {last.run_id}; {what} at {spoken(again)}", at=again)


def _pause(untried: int) -> timedelta:
    """None after the first run, then a minute, two, four, up to an hour."""
    if untried <= 1:
        return timedelta()
    return min(timedelta(minutes=2 ** min(untried - 2, 10)), timedelta(hours=1))
