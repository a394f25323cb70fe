"""Runs of one environment at once: nothing is evaluated twice, and nothing fails for it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from support.agreement import evaluated
from support.executors import Launch, dagster_home, executions
from support.postgres import Server
from support.projects import sqlmesh_run
from support.warehouse import JOURNAL, NEXT_DAY, PLANNED_AT, Warehouse, sleeping, warehouse

# Each column has a model of every kind that may suffer; columns have nothing in common.
COLUMNS = 5
SELECTIONS: dict[str, Callable[[int], str]] = {
    "the same models": lambda run: "*",
    "overlapping models": lambda run: f"key:shop{run}/* or key:shop{(run + 1) % COLUMNS}/*",
    "disjoint models": lambda run: f"key:shop{run}/*",
}

# One lock covers a DuckDB file, so that runs wait for each other there whatever they select.
CELLS = [
    pytest.param(
        *cell,
        marks=[pytest.mark.campaign]
        if cell[1] == 5 or (cell[0] == "DuckDB" and cell[2] != "overlapping models")
        else [],
    )
    for cell in product(["DuckDB", "PostgreSQL"], [2, 5], SELECTIONS)
]


def models() -> dict[str, str]:
    """The warehouse's models, five times over."""
    found = {path: text for path, text in JOURNAL.items() if path.startswith("audits/")}
    for path, text in JOURNAL.items():
        if path.startswith("models/") and "best" not in path:
            for column in range(COLUMNS):
                copy = text.replace("shop.", f"shop{column}.").replace("{fail}", "0")
                found[path.replace("models/", f"models/shop{column}/")] = copy
    for column in range(COLUMNS):
        # Runs that start together are then certain to be at it at the same time.
        found[f"models/shop{column}/nap.py"] = sleeping(f"shop{column}.nap", seconds=0.5)
    return found


def tables(shop: Warehouse) -> dict[str, list[tuple[Any, ...]]]:
    """Rows of every model, as a twin has them too."""
    names = shop.query(
        "SELECT table_schema || '.' || table_name FROM information_schema.tables "
        "WHERE table_schema LIKE 'shop_'"
    )
    return {name: sorted(shop.query(f"SELECT * FROM {name}"), key=repr) for (name,) in names}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[tuple[Any, ...]]]:
    """The tables of a twin that SQLMesh itself has run once, on its own."""
    twin = warehouse(tmp_path_factory.mktemp("twin") / "project", models=models())
    assert sqlmesh_run(twin.project, NEXT_DAY).is_success
    return tables(twin)


@pytest.mark.parametrize(("engine", "runs", "selection"), CELLS)
def test_runs_at_once_evaluate_each_model_once_and_all_succeed(
    tmp_path: Path,
    postgres_server: Server,
    undisturbed: dict[str, list[tuple[Any, ...]]],
    engine: str,
    runs: int,
    selection: str,
) -> None:
    on_server = engine == "PostgreSQL"
    database = postgres_server.database() if on_server else None
    shop = warehouse(tmp_path / "project", database, models=models())
    home = dagster_home(tmp_path / "home", postgres_server.database().dagster_yaml)
    at_once = {"SQLMESH_AUTOMATION_MAX_CONCURRENT_EXECUTIONS": str(runs)}

    barrier = tmp_path / "barrier"
    barrier.mkdir()
    with ExitStack() as stack:
        launches = [
            stack.enter_context(
                Launch(
                    shop.project,
                    home,
                    "in_process",
                    at=NEXT_DAY,
                    barrier=barrier,
                    select=SELECTIONS[selection](number),
                    variables=at_once,
                )
            )
            for number in range(runs)
        ]
        while len(list(barrier.iterdir())) < runs:
            time.sleep(0.01)
        (barrier / "open").touch()
        done = [launch.finish() for launch in launches]
        for launch, run in zip(launches, done, strict=True):
            assert run.success, launch.told()
        executed = Counter(
            name
            for run in done
            for name, outcome in run.by_name().items()
            if outcome.status.value == "executed"
        )
        instance = launches[0].instance
        told = {name: evaluated(instance, name.replace(".", "/")) for name in executed}

    assert executions(home) == runs
    assert set(executed.values()) == {1}, executed
    interval = [[PLANNED_AT.isoformat(), NEXT_DAY.isoformat()]]
    assert told == dict.fromkeys(executed, interval)
    found = tables(shop)
    selected = {name for name in found if name in executed}
    assert len(selected) >= 4 * runs if selection == "disjoint models" else selected
    assert {name: found[name] for name in selected} == {
        name: undisturbed[name] for name in selected
    }
    if database is not None:
        assert database.locks() == 0


def test_disjoint_models_are_evaluated_side_by_side_and_who_waits_says_for_whom(
    tmp_path: Path, postgres_server: Server
) -> None:
    """Two runs are inside a model each at the same moment; a third waits for one of them."""
    database = postgres_server.database()
    shop = warehouse(
        tmp_path / "project",
        database,
        models={f"models/{name}.py": sleeping(f"slow.{name}") for name in ("left", "right")},
    )
    home = dagster_home(tmp_path / "home")
    gates = {name: shop.project / "gate" / f"slow.{name}" for name in ("left", "right")}
    for gate in gates.values():
        gate.mkdir(parents=True)
    two = {"SQLMESH_AUTOMATION_MAX_CONCURRENT_EXECUTIONS": "3"}

    def launch(name: str) -> Launch:
        return Launch(
            shop.project, home, "in_process", NEXT_DAY, select=f"key:slow/{name}", variables=two
        )

    with launch("left") as left, launch("right") as right, launch("left") as waiting:
        for each in (left, right):
            each.wait_for(lambda: (gates["right"] / "reached").exists())
        waiting.wait_for(lambda: "Waiting: slow.left is being evaluated" in waiting.told())
        first = left if f"run {left.run_id}" in waiting.told() else waiting
        assert first is left or f"run {waiting.run_id}" in left.told()
        for gate in gates.values():
            (gate / "open").touch()
        found = [each.finish() for each in (left, right, waiting)]
        assert [run.success for run in found] == [True] * 3
        statuses = [run.by_name().popitem()[1].status.value for run in found]
        assert sorted(statuses) == ["executed", "executed", "up_to_date"]
