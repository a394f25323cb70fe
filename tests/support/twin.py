"""Random projects as SQLMesh's own snapshots in memory, and what has been recorded of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlmesh.core.dialect import parse
from sqlmesh.core.model import load_sql_based_model
from sqlmesh.core.snapshot import Snapshot, SnapshotChangeCategory, missing_intervals

from dagster_sqlmesh_automation.assets.definitions.policy import Policy
from dagster_sqlmesh_automation.assets.intervals import moment
from dagster_sqlmesh_automation.automation.facts.facts import Due
from dagster_sqlmesh_automation.automation.facts.intervals import Range, due_since, joined

DAY = timedelta(days=1)
KINDS = {
    "incremental": "INCREMENTAL_BY_TIME_RANGE (time_column ds)",
    "full": "FULL",
    "view": "VIEW",
}


@dataclass(frozen=True)
class Design:
    """One model of a random project."""

    name: str
    parents: tuple[str, ...]
    cron: str
    cron_tz: str | None
    kind: str
    policy: Policy


class Twin:
    """The snapshots of a project, and what has been recorded of them."""

    def __init__(self, designs: Sequence[Design], start: datetime) -> None:
        self.snapshots: dict[str, Any] = {}
        self._looks: dict[str, tuple[datetime, datetime, list[Range]]] = {}
        self._since: dict[str, tuple[list[Range], datetime | None]] = {}
        models: dict[str, Any] = {}
        for design in designs:
            zone = f", cron_tz '{design.cron_tz}'" if design.cron_tz else ""
            reads = "".join(f", (SELECT MAX(x) FROM db.{p}) AS {p}" for p in design.parents)
            text = (
                f"MODEL (name db.{design.name}, kind {KINDS[design.kind]}, cron '{design.cron}'"
                f"{zone}, start '{start:%Y-%m-%d}'); SELECT 1 AS x, '2026-01-01' AS ds{reads}"
            )
            model = load_sql_based_model(parse(text))
            models[model.fqn] = model
            snapshot = Snapshot.from_node(model, nodes=models)
            snapshot.categorize_as(SnapshotChangeCategory.BREAKING)
            self.snapshots[design.name] = snapshot

    def missing(self, name: str, at: datetime) -> list[Range]:
        """What SQLMesh would evaluate of a model at a moment."""
        return self._look(name, at)[2]

    def next_cron(self, name: str, at: datetime) -> datetime:
        """When a model's cron elapses next."""
        return self._look(name, at)[1]

    def floor(self, name: str, at: datetime) -> datetime:
        """Up to when SQLMesh holds intervals for ended at a moment."""
        floor: datetime = self.snapshots[name].node.cron_floor(at)
        return floor

    def due(self, name: str, at: datetime) -> Due | None:
        """What a tick reads of a model at a moment; ``None`` where nothing is due."""
        intervals = self.missing(name, at)
        if not intervals:
            return None
        last = self._since.get(name)
        if last is None or last[0] is not intervals:
            snapshot = self.snapshots[name]
            since = due_since(snapshot, intervals, snapshot.intervals, (), None)
            last = self._since[name] = intervals, since
        since = last[1]
        spans = tuple((moment(start), moment(end)) for start, end in joined(intervals))
        return Due(spans, since=since if since is not None and since <= at else None)

    def _look(self, name: str, at: datetime) -> tuple[datetime, datetime, list[Range]]:
        look = self._looks.get(name)
        if look is None or not look[0] <= at < look[1]:
            snapshot = self.snapshots[name]
            # SQLMesh looks at every interval since the model's start; what is recorded without a
            # gap need not be looked at again.
            settled = (
                len(snapshot.intervals) == 1 and snapshot.model.kind.is_incremental_by_time_range
            )
            start = moment(snapshot.intervals[0][1]) - DAY if settled else None
            missing = missing_intervals([snapshot], start=start, end=at, execution_time=at)
            intervals = [(begin, end) for begin, end in missing.get(snapshot, [])]
            look = self._looks[name] = (at, snapshot.node.cron_next(at), intervals)
        return look

    def record(self, name: str, intervals: Sequence[Range]) -> None:
        """Records that intervals have been evaluated."""
        for start, end in intervals:
            self.snapshots[name].add_interval(start, end)
        self._looks.pop(name, None)


def plain_runs(
    designs: Sequence[Design], start: datetime, end: datetime, left_out: Callable[[str], bool]
) -> Twin:
    """What ``sqlmesh run`` every five minutes comes to, where nothing fails.

    Moments at which no cron has elapsed since the last one change nothing and are passed over.
    """
    twin = Twin(designs, start)
    five = timedelta(minutes=5)
    at = start
    while at <= end:
        for design in designs:
            if not left_out(design.name) and (intervals := twin.missing(design.name, at)):
                twin.record(design.name, intervals)
        following = min(twin.next_cron(design.name, at) for design in designs)
        at = start + -(-(following - start) // five) * five
    return twin
