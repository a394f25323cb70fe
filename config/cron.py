"""Cron moments in a model's own time zone."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from croniter import croniter


def next_tick(cron: str, after: datetime, tz: str | None = None) -> datetime:
    """First moment of a cron expression after a given one.

    Args:
        cron: A cron expression with five fields, or an alias such as ``@daily``.
        after: An aware datetime; the result is later than this.
        tz: IANA name of the zone in which the expression is read; UTC when not given.

    Returns:
        The moment in UTC. On a day when the clock jumps over the moment, croniter's answer.
    """
    local = after.astimezone(ZoneInfo(tz) if tz else UTC)
    found: datetime = croniter(cron, local).get_next(datetime)
    return found.astimezone(UTC)
