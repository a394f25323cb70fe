"""One SQLMesh execution for a run, whatever executes its steps and wherever it is recorded."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path

import dagster as dg
import pytest
from support import counting
from support.executors import EXECUTORS, Launch, dagster_home, executions, executions_log
from support.outcome_helpers import Recorded, recorded
from support.postgres import Server
from support.schema import invoke
from support.ticks import Run
from support.warehouse import NEXT_DAY, PLANNED_AT, Warehouse, warehouse

Place = tuple[Warehouse, Path]

DONE = {"events": "executed", "customers": "executed", "totals": "executed", "best": "executed"}
PASSED = Recorded("success", materializations=1, checks={"stays_true": "passed"})
EVENTS = Recorded(
    "success", materializations=1, checks={"stays_true": "passed", "has_rows": "passed"}
)
NEVER = Recorded("not started")

SCENARIOS = {
    "all succeed": (
        None,
        DONE,
        {"events": EVENTS, "customers": PASSED, "totals": PASSED, "best": PASSED},
    ),
    "a model fails": (
        "shop.totals",
        {**DONE, "totals": "failed", "best": "skipped"},
        {"events": EVENTS, "customers": PASSED, "totals": Recorded("failure"), "best": NEVER},
    ),
    "a blocking audit fails": (
        "shop.totals audit",
        {**DONE, "totals": "audit_failed", "best": "skipped"},
        {
            "events": EVENTS,
            "customers": PASSED,
            "totals": Recorded("failure", checks={"stays_true": "ERROR"}),
            "best": NEVER,
        },
    ),
}


@pytest.fixture
def place(
    tmp_path: Path, request: pytest.FixtureRequest
) -> Callable[[str], tuple[Warehouse, Path]]:
    """A project and a ``DAGSTER_HOME``: both on files, or both on PostgreSQL."""

    def made(kind: str) -> tuple[Warehouse, Path]:
        if kind == "SQLite":
            return warehouse(tmp_path / "project"), dagster_home(tmp_path / "home")
        server: Server = request.getfixturevalue("postgres_server")
        home = dagster_home(tmp_path / "home", server.database().dagster_yaml)
        return warehouse(tmp_path / "project", server.database()), home

    return made


def outcomes(run: Run) -> dict[str, str]:
    """What became of each model of the schema ``shop``."""
    return {
        name.removeprefix("shop."): outcome.status.value for name, outcome in run.by_name().items()
    }


# Other widths of the same executor differ in timing alone: the suite runs their hardest case on
# the storage where steps are really side by side. That all succeeds it sees on files.
WIDTHS = {"multiprocess_1", "multiprocess_4"}
HARDEST = ("PostgreSQL", "a model fails")


def _is_for_the_campaign(executor: str, storage: str, scenario: str) -> bool:
    if executor in WIDTHS:
        return (storage, scenario) != HARDEST
    return storage == "PostgreSQL" and SCENARIOS[scenario][0] is None


CELLS = [
    pytest.param(*cell, marks=[pytest.mark.campaign] if _is_for_the_campaign(*cell) else [])
    for cell in product(EXECUTORS, ["SQLite", "PostgreSQL"], SCENARIOS)
]


@pytest.mark.parametrize(("executor", "storage", "scenario"), CELLS)
def test_a_run_is_one_execution_with_the_same_outcomes_everywhere(
    place: Callable[[str], Place], executor: str, storage: str, scenario: str
) -> None:
    shop, home = place(storage)
    told_to_fail, expected, records = SCENARIOS[scenario]
    if told_to_fail is not None:
        shop.fail(told_to_fail)

    with Launch(shop.project, home, executor, at=NEXT_DAY) as launch:
        run = launch.finish()

        assert executions(home) == 1, launch.told()
        assert outcomes(run) == expected, launch.told()
        assert {name: recorded(run, f"shop/{name}") for name in records} == records, launch.told()
        assert run.success is (told_to_fail is None)
        assert not launch.leftover_processes

    for name, held in shop.intervals().items():
        until = NEXT_DAY if expected[name.removeprefix("shop.")] == "executed" else PLANNED_AT
        assert held[-1][1] == until.isoformat(), name
    if shop.database is not None:
        assert shop.database.locks() == 0


@pytest.mark.parametrize("executor", ["multiprocess_2", "subprocess"])
def test_only_the_process_that_executes_imports_sqlmesh(
    place: Callable[[str], Place], executor: str
) -> None:
    shop, home = place("SQLite")
    # Whoever is first to find no manifest imports it too.
    assert invoke("prepare", "--project", shop.project).exit_code == 0
    with Launch(shop.project, home, executor, at=NEXT_DAY) as launch:
        assert launch.finish().success, launch.told()
        executing = launch.executing()
        started = launch.run.events(dg.DagsterEventType.STEP_WORKER_STARTED)

    assert len(started) == 4
    assert counting.importers(executions_log(home)) == {executing}
