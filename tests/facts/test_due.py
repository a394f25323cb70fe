"""The due reader against SQLMesh: what it holds due is what a run at that moment executes."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from generator import Design, generate_project
from support import projects

from dagster_sqlmesh_automation.automation.facts.due import DueReader
from dagster_sqlmesh_automation.config.settings import AutomationSettings

EXAMPLE_TIMES = [
    projects.PLANNED_AT + timedelta(minutes=minutes)
    for minutes in (
        *(3, 5, 59, 60, 65, 120, 239, 240, 245),  # within a day, New York's midnight at 04:00
        *(1440, 1441, 1680, 2880, 4 * 1440, 5 * 1440, 5 * 1440 + 240),  # days, Sunday's @weekly
        *(9 * 1440, 17 * 1440 + 720, 18 * 1440 - 1, 25 * 1440),  # past both DST ends, past the data
    )
]


Executed = dict[str, list[tuple[datetime, datetime]]]


@contextmanager
def watching(executed: Executed) -> Iterator[None]:
    """Notes every batch that SQLMesh evaluates, at its scheduler."""
    from sqlmesh.core.scheduler import Scheduler

    original = Scheduler.evaluate

    def evaluate(self: Any, snapshot: Any, start: Any, end: Any, *args: Any, **kwargs: Any) -> Any:
        moments = tuple(datetime.fromtimestamp(at / 1000, tz=UTC) for at in (start, end))
        executed.setdefault(snapshot.name, []).append(moments)
        return original(self, snapshot, start, end, *args, **kwargs)

    Scheduler.evaluate = evaluate  # type: ignore[method-assign]
    try:
        yield
    finally:
        Scheduler.evaluate = original  # type: ignore[method-assign]


def joined(intervals: list[tuple[datetime, datetime]]) -> list[tuple[datetime, datetime]]:
    found: list[tuple[datetime, datetime]] = []
    for start, end in sorted(intervals):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


def compare(project: Path, times: list[datetime], environment: str = "prod") -> int:
    """Reads what is due and has SQLMesh run, one moment after the other, in one project."""
    reader = DueReader(AutomationSettings(project=project, environment=environment))
    batches = 0
    for at in times:
        due = {
            name: list(due.intervals) for name, due in reader.read(at).due.items() if due.intervals
        }
        executed: Executed = {}
        with watching(executed):
            projects.sqlmesh_run(project, at, environment)
        assert due == {name: joined(found) for name, found in executed.items()}, at
        batches += len(executed)
    return batches


def test_the_due_set_of_the_example_is_what_sqlmesh_executes(example: Path) -> None:
    assert compare(example, EXAMPLE_TIMES) > 100


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.campaign)])
def test_the_due_set_of_a_generated_project_is_what_sqlmesh_executes(
    tmp_path: Path, seed: int
) -> None:
    generate_project(tmp_path / "project", 25, seed=seed)
    projects.plan(tmp_path / "project", projects.PLANNED_AT)
    draw = random.Random(seed)
    at, times = projects.PLANNED_AT, []
    for _ in range(20):
        at += timedelta(minutes=draw.choice([5, 30, 60, 125, 400, 1440]))
        times.append(at)
    assert compare(tmp_path / "project", times) > 100


def test_a_development_environment_is_read_with_its_own_intervals(example: Path) -> None:
    model = example / "models" / "sales" / "weekly_summary.sql"
    model.write_text(model.read_text().replace("@weekly", "@daily"))
    at = projects.PLANNED_AT
    projects.plan(example, at, "dev", start="2026-10-10", include_unmodified=True)
    assert compare(example, [at + timedelta(hours=hours) for hours in (1, 24, 30)], "dev") > 0


def test_restated_intervals_are_due_at_once(example: Path) -> None:
    settings = AutomationSettings(project=example)
    reader = DueReader(settings)
    at = projects.PLANNED_AT + timedelta(minutes=1)
    assert not reader.read(at).due

    def forget(context: Any) -> None:
        environment = context.state_sync.get_environment("prod")
        snapshots = context.state_sync.get_snapshots(environment.snapshots)
        (payments,) = (
            s for s in snapshots.values() if "payments" in s.name and "staging" in s.name
        )
        day = (projects.PLANNED_AT - timedelta(days=2), projects.PLANNED_AT - timedelta(days=1))
        interval = tuple(int(moment.timestamp() * 1000) for moment in day)
        context.state_sync.remove_intervals([(payments, interval)])

    projects.with_context(example, forget)
    (due,) = reader.read(at).due.values()
    assert due.intervals == (
        (datetime(2026, 10, 12, tzinfo=UTC), datetime(2026, 10, 13, tzinfo=UTC)),
    )
    assert compare(example, [at]) == 1


def test_a_held_signal_is_named_and_its_lookback_alone_is_marked(example: Path) -> None:
    hold_signal(example)
    state = DueReader(AutomationSettings(project=example)).read(datetime(2026, 10, 15, tzinfo=UTC))
    due = {name.replace('"', "").partition(".")[2]: due for name, due in state.due.items()}

    assert due["sales.daily_revenue"].only_lookback
    assert due["sales.daily_revenue"].waiting == "signal raw_loads_complete holds it"
    assert not due["sales.orders"].only_lookback
    assert not due["sales.orders"].waiting


def hold_signal(project: Path) -> None:
    import duckdb

    with duckdb.connect(str(project / "jaffle_shop.duckdb")) as connection:
        connection.execute(
            "UPDATE raw.loads SET loaded_until = TIMESTAMP '2026-10-14' "
            "WHERE table_name = 'raw.orders'"
        )


def test_reading_writes_nothing(example: Path) -> None:
    database = example / "jaffle_shop.duckdb"
    shutil.copy(database, example / "before.duckdb")
    DueReader(AutomationSettings(project=example)).read(datetime(2026, 10, 20, tzinfo=UTC))
    assert database.read_bytes() == (example / "before.duckdb").read_bytes()


def test_until_a_cron_elapses_or_the_state_changes_an_idle_read_computes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sqlmesh.core.scheduler import Scheduler

    computed = []
    original = Scheduler.merged_missing_intervals

    def counting(self: Any, *args: Any, **kwargs: Any) -> Any:
        computed.append(kwargs.get("end"))
        return original(self, *args, **kwargs)

    project = tmp_path / "project"
    generate_project(project, 4, Design(extras=["audits"], crons=[("*/5 * * * *", None)]))
    projects.plan(project, projects.PLANNED_AT)
    monkeypatch.setattr(Scheduler, "merged_missing_intervals", counting)
    reader = DueReader(AutomationSettings(project=project))
    minute = timedelta(minutes=1)
    states = [reader.read(projects.PLANNED_AT + minute * n) for n in range(6)]

    assert computed == [projects.PLANNED_AT, projects.PLANNED_AT + 5 * minute]
    assert [state.at for state in states] == [projects.PLANNED_AT + minute * n for n in range(6)]
    assert [len(state.due) for state in states] == [0, 0, 0, 0, 0, 4]
    assert states[4].next_cron == states[0].next_cron

    projects.sqlmesh_run(project, projects.PLANNED_AT + 6 * minute)
    computed.clear()
    assert [len(reader.read(projects.PLANNED_AT + minute * n).due) for n in (6, 7)] == [0, 0]
    assert len(computed) == 1
