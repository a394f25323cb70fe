"""Intervals of time as this package passes them on: pairs of aware moments in UTC, half open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import AwareDatetime

MOST_RANGES = 20
"""Of recorded ranges that are passed on to Dagster, the last ones; each is a row there."""

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


@dataclass(frozen=True, slots=True)
class Record:
    """What SQLMesh has recorded of a model, seen from one moment.

    Attributes:
        ranges: The time that is recorded, as ranges that do not touch, in order.
        start: The first moment that SQLMesh evaluates, at the border of an interval.
        due: The moment up to which intervals are due, by the model's cron and its end.
        ended: The moment up to which intervals have ended, whether they are due yet or not.
        at: The moment; all are aware.
        earlier: How many ranges there are before these.
    """

    ranges: tuple[Interval, ...]
    start: AwareDatetime
    due: AwareDatetime
    ended: AwareDatetime
    at: AwareDatetime
    earlier: int = 0

    def with_evaluated(self, intervals: Sequence[Interval]) -> Record:
        """Returns the record with more time, of which only the last ranges are kept."""
        ranges = contiguous([*self.ranges, *intervals])
        left = max(0, len(ranges) - MOST_RANGES)
        start = self.start if not left else max(self.start, ranges[left][0])
        return replace(self, ranges=ranges[left:], start=start, earlier=self.earlier + left)

    @property
    def missing(self) -> tuple[Interval, ...]:
        """The time that is due and not recorded, in order."""
        return outside((self.start, self.due), self.ranges)

    def to_json(self) -> dict[str, Any]:
        """A JSON object, of which pydantic makes the record again."""
        moments = {
            name: getattr(self, name).isoformat() for name in ("start", "due", "ended", "at")
        }
        ranges = [interval_to_json(each) for each in self.ranges]
        return {"ranges": ranges, **moments, "earlier": self.earlier}


def outside(span: Interval, ranges: Sequence[Interval]) -> tuple[Interval, ...]:
    """Returns what of a span no range holds, in order; ranges are in order and do not touch."""
    left, (start, end) = [], span
    for first, last in ranges:
        if start < min(first, end):
            left.append((start, min(first, end)))
        start = max(start, last)
    return (*left, (start, end)) if start < end else tuple(left)
