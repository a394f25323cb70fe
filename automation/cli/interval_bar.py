"""The last weeks of a model's intervals, a character for each day."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from ...assets.intervals import Interval, Record
from ..facts.facts import spoken_intervals

_WEEKS = 4
_DAY = timedelta(days=1)
_MARKS = {"recorded": "█", "in part": "▒", "missing": "░", "ahead of time": "»", "not due": "·"}
_PLAIN = {"recorded": "#", "in part": "+", "missing": "-", "ahead of time": ">", "not due": "."}


def interval_bar(record: Record, *, ascii_only: bool = False) -> Iterator[str]:
    """Yields lines: the bar with what its characters mean, and what is missing.

    Args:
        record: What is recorded.
        ascii_only: Whether the terminal shows no other characters.
    """
    last = record.at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    first = last - _WEEKS * 7 * _DAY + _DAY
    states = [_state(record, first + number * _DAY) for number in range(_WEEKS * 7)]
    marks = _PLAIN if ascii_only else _MARKS
    bar = "".join(marks[state] for state in states)
    weeks = " ".join(bar[start : start + 7] for start in range(0, len(bar), 7))
    legend = ", ".join(f"{marks[state]} {state}" for state in marks if state in states)
    yield f"{first:%Y-%m-%d} {weeks} {last:%Y-%m-%d} ({legend}; UTC days)"
    if missing := record.missing:
        more = f", and {len(missing) - 3} earlier" if len(missing) > 3 else ""
        yield f"missing: {spoken_intervals(missing[-3:])}{more}"


def _state(record: Record, day: datetime) -> str:
    """Returns what is to be said of one day."""
    span = (day, day + _DAY)
    wanted = _overlap(span, [(record.start, max(record.start, record.due))])
    got = _overlap(span, record.ranges)
    if span[1] > record.at and _overlap((max(day, record.at), span[1]), record.ranges):
        return "ahead of time"
    if not got:
        return "missing" if wanted else "not due"
    lacking = _overlap(span, record.missing)
    return "in part" if lacking or (not wanted and got < _DAY) else "recorded"


def _overlap(span: Interval, ranges: Sequence[Interval]) -> timedelta:
    """Returns how much of a span ranges hold that do not touch."""
    lengths = (min(span[1], end) - max(span[0], start) for start, end in ranges)
    return sum((length for length in lengths if length > timedelta(0)), timedelta(0))
