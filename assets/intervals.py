"""Intervals of time as this package passes them on: pairs of aware moments in UTC, half open."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from pydantic import AwareDatetime

Interval = tuple[AwareDatetime, AwareDatetime]
"""A half-open range of time, both ends aware and in UTC, as SQLMesh records it."""


def moment(timestamp_ms: int) -> datetime:
    """SQLMesh's milliseconds since 1970 as an aware datetime in UTC."""
    return datetime.fromtimestamp(timestamp_ms / 1000, tz=UTC)


def interval_to_json(interval: Interval) -> list[str]:
    """Both ends in ISO 8601."""
    return [moment.isoformat() for moment in interval]


def interval_from_json(content: Sequence[str]) -> Interval:
    """Reads :func:`interval_to_json`."""
    start, end = map(datetime.fromisoformat, content)
    return start, end


def contiguous(intervals: Sequence[Interval]) -> tuple[Interval, ...]:
    """The same time as ranges that do not touch, in order."""
    merged: list[Interval] = []
    for start, end in sorted(intervals):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return tuple(merged)


def spoken_start(start: datetime) -> str:
    """Returns the first moment of a model, in UTC; a whole day as SQLMesh's dates spell it."""
    start = start.astimezone(UTC)
    return f"{start:%Y-%m-%d}" if _begins_a_day(start) else f"{start:%Y-%m-%d %H:%M} UTC"


def spoken_end(end: datetime) -> str:
    """Returns the moment after which nothing is evaluated, likewise; a date is the last day."""
    end = end.astimezone(UTC)
    return (
        f"{end - timedelta(days=1):%Y-%m-%d}" if _begins_a_day(end) else f"{end:%Y-%m-%d %H:%M} UTC"
    )


def _begins_a_day(moment: datetime) -> bool:
    return (moment.hour, moment.minute, moment.second, moment.microsecond) == (0, 0, 0, 0)
