"""Intervals that SQLMesh has recorded as evaluated although they had not ended.

An evaluation for a moment ahead of the clock leaves them behind. Data that arrive later belong to
them and are never evaluated. SQLMesh's own restatement does not help: in ``prod`` it leaves the
record as it is, and it refuses an end ahead of the clock.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlglot import exp

from ...config.clock import TOLERANCE
from ..intervals import Interval, moment

if TYPE_CHECKING:
    from sqlmesh.core.context import Context
    from sqlmesh.core.snapshot import Snapshot

Range = tuple[int, int]

_TOLERANCE_MS = int(TOLERANCE.total_seconds() * 1000)


def recorded_ahead(
    context: Context, snapshots: Collection[Snapshot]
) -> dict[str, tuple[Interval, ...]]:
    """Returns what of some models was recorded before it had ended, and not evaluated since.

    SQLMesh's rows tell when each was written; those that it has compacted tell that of the
    compaction, so that of what has ended before a compaction nothing is known. Previews of
    forward-only changes are left out: their tables are made anew.

    Args:
        context: The context, whose state is read and not written.
        snapshots: The models' snapshots, as the environment holds them.

    Returns:
        Ranges in order, by ``fqn``; a range begins when its row was written.
    """
    state = context.state_sync.state_sync  # type: ignore[attr-defined]
    table = state.interval_state.intervals_table
    early = (
        exp.select("name")
        .from_(table)
        .where(f"end_ts > created_ts + {_TOLERANCE_MS}")
        .where("NOT is_dev AND NOT is_removed AND NOT is_pending_restatement")
    )
    rows = state.engine_adapter.fetchall(
        exp.select("name", "version", "start_ts", "end_ts", "created_ts", "is_removed")
        .from_(table)
        .where("NOT is_dev AND NOT is_pending_restatement")
        .where(exp.column("name").isin(query=early))
        .order_by("created_ts")
    )
    versions = {snapshot.name: snapshot.version for snapshot in snapshots}
    ranges: dict[str, list[Range]] = {}
    for name, version, start, end, written, is_removed in rows:
        if versions.get(name) == version:
            left = _without(ranges.get(name, []), start, end)
            if not is_removed and end > written + _TOLERANCE_MS:
                left.append((max(start, written), end))
            ranges[name] = left
    return {
        name: tuple((moment(start), moment(end)) for start, end in sorted(left))
        for name, left in ranges.items()
        if left
    }


def not_ended(snapshots: Iterable[Snapshot]) -> dict[str, Interval]:
    """Returns the recorded time of each model from its interval in progress on, by ``fqn``.

    Models that have recorded nothing ahead of the clock are left out.
    """
    now = datetime.now(UTC)
    intervals = {}
    for snapshot in snapshots:
        if snapshot.intervals and (end := moment(snapshot.intervals[-1][1])) > now + TOLERANCE:
            unit = snapshot.node.interval_unit
            assert unit is not None
            intervals[snapshot.name] = (unit.cron_floor(now), end)
    return intervals


def withdraw(context: Context, snapshots: Iterable[Snapshot]) -> None:
    """Takes what some models have recorded ahead of the clock off SQLMesh's record.

    The tables stay as they are; SQLMesh evaluates the intervals when they have ended.
    """
    by_name = {snapshot.name: snapshot for snapshot in snapshots}
    removals = [
        (by_name[name], (_milliseconds(start), _milliseconds(end)))
        for name, (start, end) in not_ended(by_name.values()).items()
    ]
    if removals:
        context.state_sync.remove_intervals(removals, remove_shared_versions=True)


def _without(ranges: Iterable[Range], start: int, end: int) -> list[Range]:
    """Returns ranges without what lies between two moments."""
    pieces = [piece for r in ranges for piece in ((r[0], min(r[1], start)), (max(r[0], end), r[1]))]
    return [piece for piece in pieces if piece[0] < piece[1]]


def _milliseconds(at: datetime) -> int:
    return int(at.timestamp() * 1000)
