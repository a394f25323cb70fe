"""A batch that takes longer than its model may: its statement is cancelled, and nothing else."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest
from support.endless import endless_warehouse, running
from support.executors import Launch, dagster_home
from support.postgres import Server
from support.ticks import Automation
from support.warehouse import NEXT_DAY, sleeping, warehouse

from dagster_sqlmesh_automation.config.settings import PREFIX

RULE = {"shop.endless": {"max_seconds": 1}}
ERROR = "it ran longer than max_seconds=1 (MODELS shop.endless) and was cancelled"


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["duckdb", "postgres"])
def test_a_statement_that_takes_too_long_is_cancelled_as_its_model_s_failure(
    tmp_path: Path, instance: dg.DagsterInstance, postgres_server: Server, engine: str
) -> None:
    database = postgres_server.database() if engine == "postgres" else None
    shop = endless_warehouse(tmp_path / "project", database)
    automation = Automation.of(shop.project, instance, models=RULE)
    _, run = automation.tick_and_run(NEXT_DAY)
    assert run is not None
    outcomes = run.by_name()
    assert {name: outcome.status.value for name, outcome in outcomes.items()} == {
        "shop.endless": "failed",
        "shop.reader": "skipped",
        "shop.sibling": "executed",
    }
    assert outcomes["shop.endless"].error == ERROR
    assert database is None or running(database) == []
    # An attempt like any other failure.
    decisions = automation.tick(NEXT_DAY).plan.decisions.values()
    (reason,) = (decision.reason for decision in decisions if decision.name == "shop.endless")
    assert reason.endswith("attempt 2 of 3 at 2026-10-09 00:10 UTC")


@pytest.mark.slow
def test_a_model_that_does_not_wait_for_a_statement_goes_on_and_its_run_says_so(
    tmp_path: Path,
) -> None:
    shop = warehouse(
        tmp_path / "project", models={"models/held.py": sleeping("slow.held")}, tasks=1
    )
    gate = shop.project / "gate" / "slow.held"
    gate.mkdir(parents=True)
    rules = {f"{PREFIX}MODELS": '{"slow.*": {"max_seconds": 1}}'}
    home = dagster_home(tmp_path / "home")
    with Launch(shop.project, home, "in_process", at=NEXT_DAY, variables=rules) as launch:
        launch.wait_for(lambda: "slow.held goes on although it ran longer" in launch.told())
        (gate / "open").touch()
        run = launch.finish()
        # It was done and recorded in the end, and was not evaluated twice for nothing.
        assert run.success, launch.told()
        assert launch.told().count("goes on although") == 1
