"""What SQLMesh's state says of an environment, read as it is now and never written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlglot import exp
from sqlmesh.core.snapshot import DeployabilityIndex, Snapshot

from ...assets.intervals import moment

if TYPE_CHECKING:
    from sqlmesh.core.context import Context
    from sqlmesh.core.environment import Environment


def written_state(context: Context, environment: Environment) -> tuple[Any, ...]:
    """What changes whenever SQLMesh writes anything that makes models due or not.

    Intervals are only ever added, also those that say "removed", but for compaction, which changes
    nothing that they say.
    """
    state = uncached(context)
    table = state.interval_state.intervals_table
    versions = state.engine_adapter.fetchone(
        exp.select("COUNT(*)", "MAX(created_ts)", "MAX(last_altered_ts)").from_(table)
    )
    return (environment.plan_id, environment.finalized_ts, *versions)


def uncached(context: Context) -> Any:
    """The state behind SQLMesh's caching wrapper, which may be two minutes old."""
    return context.state_sync.state_sync  # type: ignore[attr-defined]


def deployable(environment: Environment, snapshots: dict[Any, Snapshot]) -> DeployabilityIndex:
    """As ``Context.run``: only prod's tables are all deployable."""
    if environment.naming_info.name == "prod":
        return DeployabilityIndex.all_deployable()
    return DeployabilityIndex.create(snapshots.values())


@contextmanager
def unchanged(snapshots: dict[Any, Snapshot]) -> Iterator[None]:
    """Takes back what computing restatements does to the snapshots."""
    saved = [
        (s, list(s.intervals), list(s.pending_restatement_intervals), s.next_auto_restatement_ts)
        for s in snapshots.values()
    ]
    try:
        yield
    finally:
        for snapshot, intervals, pending, restated in saved:
            snapshot.intervals = intervals
            snapshot.pending_restatement_intervals = pending
            snapshot.next_auto_restatement_ts = restated


def restated_at(snapshot: Snapshot) -> datetime:
    """When a model with a cron for restatements is restated next.

    As ``Snapshot.get_next_auto_restatement_interval``, which tells only whether that is now.
    """
    if snapshot.next_auto_restatement_ts:
        return moment(snapshot.next_auto_restatement_ts)
    ticks = snapshot.model.auto_restatement_croniter(snapshot.created_ts)
    moment_due: datetime = ticks.get_next(estimate=False)
    return moment_due


def intervals_since(context: Context, altered: int) -> list[Any]:
    """Name, version, start, end and moment of the intervals recorded since a moment.

    Without those that a restatement has taken away, and those that have been compacted.
    """
    state = uncached(context)
    rows: list[Any] = state.engine_adapter.fetchall(
        exp.select("name", "version", "start_ts", "end_ts", "last_altered_ts")
        .from_(state.interval_state.intervals_table)
        .where(exp.column("last_altered_ts") > altered)
        .where("NOT is_removed AND NOT is_pending_restatement AND NOT is_compacted")
        .order_by("created_ts")
    )
    return rows
