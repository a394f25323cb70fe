"""From when to when SQLMesh evaluates a model: its ``start`` and ``end``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sqlmesh.core.snapshot import start_date
from sqlmesh.utils.date import make_exclusive, to_datetime

from ..intervals import Record, contiguous, moment

if TYPE_CHECKING:
    from sqlmesh.core.model import Model
    from sqlmesh.core.snapshot import Snapshot, SnapshotId

_BASES = (datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC))


class Spans:
    """Tells, for one moment, what of some models is yet to come.

    Use it under SQLMesh's lock: its crons are not made for several threads.

    Args:
        snapshots: The models and standalone audits, each with what it reads.
        at: The moment, aware.
    """

    def __init__(self, snapshots: Mapping[SnapshotId, Snapshot], at: datetime) -> None:
        self._snapshots, self._at = dict(snapshots), at
        self._starts: dict[str, datetime] = {}
        self._ticks: dict[tuple[str, str], datetime] = {}

    def starts(self, snapshot: Snapshot) -> datetime | None:
        """Returns when a model starts, by itself or by what it reads; ``None`` if it has."""
        start = start_date(snapshot, self._snapshots, self._starts, relative_to=self._at)
        return start if start > self._at else None

    def ended(self, snapshot: Snapshot) -> datetime | None:
        """Returns a model's end if its last interval has been due; ``None`` if more follow."""
        end = exclusive_end(snapshot.node)
        if end is None or self._at < _tick_after(snapshot, end):
            return None
        return end

    def record(self, snapshot: Snapshot, ranges: Iterable[tuple[int, int]]) -> Record:
        """Returns what is recorded of a model, beside what SQLMesh holds due.

        Args:
            snapshot: The model.
            ranges: Its recorded ranges, in SQLMesh's milliseconds.
        """
        unit: Any = snapshot.node.interval_unit
        recorded = contiguous([(moment(start), moment(end)) for start, end in ranges])
        begins = start_date(snapshot, self._snapshots, self._starts, relative_to=self._at)
        start = unit.cron_floor(begins)
        ended = due = unit.cron_floor(self._at)
        if not snapshot.allow_partials:
            due = unit.cron_floor(snapshot.node.cron_floor(self._at))
        if (end := exclusive_end(snapshot.node)) is not None:
            due = min(due, unit.cron_floor(end))
        if snapshot.is_seed and recorded:  # it is not evaluated again
            start = due = recorded[-1][1]
        return Record(recorded, start, max(start, due), ended, self._at)

    def next_tick(self, snapshot: Snapshot) -> datetime | None:
        """Returns the next cron tick at which a model may become due; ``None`` if none does."""
        if snapshot.is_seed and snapshot.intervals:
            return None
        if (start := self.starts(snapshot)) is not None:
            unit: Any = snapshot.node.interval_unit
            return _tick_after(snapshot, unit.cron_next(unit.cron_floor(start)))
        if self.ended(snapshot) is not None:
            return None
        cron = (snapshot.node.cron, str(snapshot.node.cron_tz))
        if cron not in self._ticks:
            self._ticks[cron] = snapshot.node.cron_next(self._at)
        return self._ticks[cron]


def exclusive_end(node: Any) -> datetime | None:
    """Returns the first moment that SQLMesh no longer evaluates of a model or standalone audit.

    ``None`` if there is none. An ``end`` such as "1 week ago" moves with the clock, and is none.
    """
    return make_exclusive(node.end) if fixed(node.end) is not None else None


def starts_of(models: Mapping[str, Model], order: Iterable[str]) -> dict[str, datetime | None]:
    """Returns when each model starts, by itself or by what it reads, as SQLMesh takes it.

    ``None`` if that is not said, or moves with the clock.

    Args:
        models: The models by ``fqn``.
        order: Their ``fqn``, those that are read first.
    """
    starts: dict[str, datetime | None] = {}
    for fqn in order:
        if (model := models.get(fqn)) is None:
            continue
        read = [starts[name] for name in model.depends_on or () if name in starts and name != fqn]
        earliest = min((start for start in read if start is not None), default=None)
        starts[fqn] = fixed(model.start) if model.start else None if None in read else earliest
    return starts


def fixed(time: Any) -> datetime | None:
    """Returns the moment of a ``start`` or ``end``; ``None`` if it moves with the clock."""
    return _fixed(str(time)) if time is not None else None


@lru_cache(maxsize=1024)
def _fixed(time: str) -> datetime | None:
    first, second = (to_datetime(time, relative_base=base) for base in _BASES)
    return first if first == second else None


def _tick_after(snapshot: Snapshot, end: datetime) -> datetime:
    """Returns the first tick of a model's cron at which the interval with this end is over."""
    unit: Any = snapshot.node.interval_unit
    if unit.cron_floor(end) != end:
        end = unit.cron_next(end)
    following: datetime = snapshot.node.cron_next(end)
    return end if snapshot.node.cron_floor(end) == end else following
