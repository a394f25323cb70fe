"""Recorded intervals as people see them: tables in Dagster, a bar in the terminal."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from support.outcome_helpers import small_project
from support.projects import with_context
from support.tables import rows
from support.ticks import Automation

from dagster_sqlmesh_automation.assets.execution.interval_tables import interval_tables
from dagster_sqlmesh_automation.assets.intervals import Interval, Record
from dagster_sqlmesh_automation.assets.ledger.outcome import Outcome, OutcomeStatus
from dagster_sqlmesh_automation.assets.project.spans import Spans
from dagster_sqlmesh_automation.automation.cli.interval_bar import interval_bar

AT = datetime(2026, 10, 15, 10, 37, tzinfo=UTC)


def day(number: int, hour: int = 0) -> datetime:
    return datetime(2026, 10, 1, hour, tzinfo=UTC) + timedelta(days=number - 1)


def milliseconds(at: datetime) -> int:
    return int(at.timestamp() * 1000)


def record(*ranges: Interval, ended: datetime | None = None) -> Record:
    return Record(ranges, start=day(1), due=day(15), ended=ended or day(15, 10), at=AT)


def picture(known: Record, *evaluated: Interval) -> list[list[str]]:
    """The rows of the table, newest first, each without its year, zone and empty cells."""
    outcome = Outcome(
        "m", "m", OutcomeStatus.EXECUTED, intervals=evaluated, plan="p" * 32, recorded=known
    )
    table = interval_tables(outcome, "r" * 36)["sqlmesh/recorded"]
    texts = ([str(cell) for cell in row.values() if cell] for row in rows(table))
    return [[text.removeprefix("2026-10-").removesuffix(" UTC") for text in row] for row in texts]


def test_the_table_has_what_is_recorded_missing_partial_and_ahead_of_time() -> None:
    known = record(
        (day(1), day(5)),
        (day(7), day(9)),
        (day(14), day(16)),
    )
    assert picture(known, (day(8), day(9))) == [
        ["15 10:00", "16 00:00", "recorded, ahead of time"],
        ["14 00:00", "15 10:00", "recorded"],
        ["09 00:00", "14 00:00", "missing"],
        ["08 00:00", "09 00:00", "evaluated now", "r" * 8, "p" * 8],
        ["07 00:00", "08 00:00", "recorded"],
        ["05 00:00", "07 00:00", "missing"],
        ["01 00:00", "05 00:00", "recorded"],
    ]


def test_time_that_had_not_ended_is_marked_as_partial() -> None:
    assert picture(record((day(1), AT), ended=day(15)), (day(14), AT))[:2] == [
        ["15 00:00", "15 10:37", "evaluated now, partial", "r" * 8, "p" * 8],
        ["14 00:00", "15 00:00", "evaluated now", "r" * 8, "p" * 8],
    ]


def test_thousands_of_holes_fill_no_page_and_none_is_told_of_what_is_left_out() -> None:
    start = datetime(2024, 1, 1, tzinfo=UTC)
    times = [start + number * timedelta(hours=3) for number in range(5000)]
    many = [(at, at + timedelta(hours=1)) for at in times]
    known = Record((), start, due=many[-1][1], ended=AT, at=AT).with_evaluated(many)
    assert len(known.ranges) == 20
    table = picture(known)
    assert len(table) == 40
    assert table[-1] == ["4980 earlier ranges"]
    assert known.start == known.ranges[0][0]


MODELS = {
    "daily": "kind INCREMENTAL_BY_TIME_RANGE (time_column day), cron '@daily'",
    "late": "kind INCREMENTAL_BY_TIME_RANGE (time_column day, lookback 2), cron '0 6 * * *'",
    "hourly": "kind INCREMENTAL_BY_TIME_RANGE (time_column day), cron '@hourly'",
    "weekly": "kind INCREMENTAL_BY_TIME_RANGE (time_column day), cron '@weekly'",
    "young": "kind INCREMENTAL_BY_TIME_RANGE (time_column day), cron '@daily', start '2026-10-05'",
    "ended": "kind INCREMENTAL_BY_TIME_RANGE (time_column day), cron '@daily', end '2026-10-09'",
    "whole": "kind FULL, cron '@daily'",
}


def test_what_is_missing_is_what_sqlmesh_holds_missing(tmp_path: Path) -> None:
    files = {
        f"models/{name}.sql": f"MODEL (name tiny.{name}, {head});\nSELECT '2026-10-01'::DATE AS day"
        for name, head in MODELS.items()
    }
    project = small_project(tmp_path / "small", files, at=day(8))
    at = day(14, 3)

    def compare(context: Any) -> None:
        state = context.state_sync
        environment = state.get_environment("prod")
        snapshots = state.get_snapshots(environment.snapshots)
        state.refresh_snapshot_intervals(snapshots.values())
        spans = Spans(snapshots, at)
        for snapshot in snapshots.values():
            known = spans.record(snapshot, snapshot.intervals)
            start = snapshot.model.start or "2026-10-01"
            held = snapshot.missing_intervals(start, at, at)
            # Without what a lookback repeats.
            recorded = [(s, e) for s, e in snapshot.intervals]
            held = [(s, e) for s, e in held if not any(a <= s and e <= b for a, b in recorded)]
            told = [
                (int(s.timestamp() * 1000), int(e.timestamp() * 1000)) for s, e in known.missing
            ]
            assert sum(e - s for s, e in held) == sum(e - s for s, e in told), snapshot.name
            assert [s for s, _ in held][:1] == [s for s, _ in told][:1], snapshot.name

    with_context(project, compare)


@pytest.mark.parametrize(
    ("known", "bar"),
    [
        (record((day(1), day(15))), "··· ··········█ ██████ ███████ ·"),
    ],
)
def test_the_bar_shows_each_day_of_four_weeks(known: Record, bar: str) -> None:
    line = next(interval_bar(known))
    assert line.startswith("2026-09-18 ")
    cells = line.split(" (")[0].removeprefix("2026-09-18 ").removesuffix(" 2026-10-15")
    assert cells.replace(" ", "") == bar.replace(" ", "")


def test_the_bar_marks_holes_days_in_part_and_time_that_has_not_come() -> None:
    holes = record((day(1), day(5)), (day(6, 6), day(15)), (day(15), day(16)))
    plain, missing = interval_bar(holes, ascii_only=True)
    assert plain.split(" (")[0].replace(" ", "")[-25:-10] == "####-+########>"
    assert "# recorded, + in part, - missing, > ahead of time, . not due" in plain
    assert missing == "missing: 2026-10-05 00:00 to 2026-10-06 06:00 UTC"


def test_the_table_of_a_materialization_outside_dagster_names_no_run(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    text = f"MODEL (name tiny.daily, {MODELS['daily']});\nSELECT '2026-10-01'::DATE AS day"
    files = {"models/daily.sql": text}
    project = small_project(tmp_path / "small", files, at=day(8))
    automation = Automation.of(project, instance)
    plan = automation.location.planner.plan(instance, day(10))
    assert [*automation.location.planner.report_outside(instance, plan)]
    key = dg.AssetKey(["tiny", "daily"])
    (materialization,) = instance.fetch_materializations(key, limit=2).records
    assert materialization.asset_materialization is not None
    table = rows(materialization.asset_materialization.metadata["sqlmesh/recorded"])
    assert [row["state"] for row in table] == ["missing", "evaluated now"]
    assert {row["run"] for row in table} == {""}
