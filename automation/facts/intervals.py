"""Arithmetic on SQLMesh's intervals: pairs of milliseconds, half open."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, NamedTuple

from ...assets.evaluation.contract import Unready
from ...assets.intervals import moment
from .facts import Due

_LONGEST_ERROR = 300
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


class Before(NamedTuple):
    """What SQLMesh had recorded of a model before an automatic restatement that is due.

    Attributes:
        intervals: The intervals that it had then.
        restated_at: When the restatement became due; ``None`` where none is.
    """

    intervals: Sequence[Range] = ()
    restated_at: datetime | None = None


def due_of(
    snapshot: Any,
    intervals: list[Range],
    recorded: list[Range],
    unready: Unready | None,
    before: Before,
    failure: str | None,
    at: datetime,
) -> Due:
    """What SQLMesh would do with one model.

    Args:
        snapshot: SQLMesh's snapshot of the model.
        intervals: What SQLMesh would evaluate.
        recorded: The intervals that SQLMesh has recorded.
        unready: What holds intervals that are not ready; ``None`` where it is the upstream.
        before: What was recorded before a restatement that is due.
        failure: Why nobody can tell whether it is ready; ``None`` where SQLMesh can.
        at: The moment.
    """
    only_lookback = bool(intervals) and all(
        first_outside(interval, recorded) is None for interval in intervals
    )
    since = due_since(snapshot, intervals, recorded, before.intervals, before.restated_at)
    due = Due(
        intervals=tuple((moment(start), moment(end)) for start, end in joined(intervals)),
        since=since if since is not None and since <= at else None,
    )
    if failure is not None:
        return replace(due, failed=textwrap.shorten(failure, _LONGEST_ERROR, placeholder=" …"))
    if intervals and not only_lookback:
        return due
    unready = unready or Unready()
    return replace(
        due,
        waiting=str(unready),
        only_lookback=only_lookback,
        signal=unready.signal,
        signal_of=unready.upstream,
    )
