"""Arithmetic on SQLMesh's intervals: pairs of milliseconds, half open."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

Range = tuple[int, int]


def joined(intervals: Sequence[Range]) -> list[Range]:
    """The same as contiguous ranges."""
    ranges: list[Range] = []
    for start, end in sorted(intervals):
        if ranges and start <= ranges[-1][1]:
            ranges[-1] = (ranges[-1][0], max(end, ranges[-1][1]))
        else:
            ranges.append((start, end))
    return ranges


def first_outside(interval: Range, recorded: Sequence[Range]) -> int | None:
    """Where in an interval the first time begins that is not recorded; ``None`` if all of it is."""
    start, end = interval
    for known_start, known_end in sorted(recorded):
        if known_start <= start < known_end:
            start = known_end
    return start if start < end else None


def due_since(
    snapshot: Any,
    intervals: Sequence[Range],
    recorded: Sequence[Range],
    before: Sequence[Range],
    restated_at: datetime | None,
) -> datetime | None:
    """When SQLMesh first held the earliest missing interval due.

    That is the first tick of the model's cron at or after the interval's end; for one that a
    restatement has removed, the moment of the restatement.

    Args:
        snapshot: SQLMesh's snapshot of the model.
        intervals: What SQLMesh would evaluate.
        recorded: The intervals that SQLMesh has recorded.
        before: The intervals that it had recorded before a restatement that is due.
        restated_at: When that restatement became due.

    Returns:
        The moment; ``None`` where the interval has not ended yet.
    """
    missing = [
        first for interval in intervals if (first := first_outside(interval, recorded)) is not None
    ]
    if not missing:
        return None
    first = min(missing)
    if restated_at is not None and first_outside((first, first + 1), before) is None:
        return restated_at
    end: datetime = snapshot.node.interval_unit.cron_next(first)
    tick: datetime = snapshot.node.cron_floor(end)
    return end if tick == end else snapshot.node.cron_next(end)
