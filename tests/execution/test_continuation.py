"""Runs that are terminated, retried or executed again: one further execution of what is left."""

from __future__ import annotations

import time
from pathlib import Path

import dagster as dg
import pytest
from support.agreement import disagreements, tick_until_idle
from support.executors import Launch, dagster_home, executions
from support.outcome_helpers import runless
from support.postgres import Database, Server
from support.projects import plan
from support.ticks import Automation, Run
from support.warehouse import NEXT_DAY, PLANNED_AT, Warehouse, sleeping, warehouse

from dagster_sqlmesh_automation.assets.execution.run_side import FRESH_SECONDS

T = dg.DagsterEventType
SLOW = {
    "models/one.py": sleeping("slow.one"),
    "models/two.py": sleeping("slow.two", ["slow.one"]),
    "models/last.py": sleeping("slow.last", ["slow.two"]),
}
EXECUTORS = ["in_process", "multiprocess_2", "subprocess"]


def statuses(run: Run) -> dict[str, str]:
    return {name: outcome.status.value for name, outcome in run.by_name().items()}


def counts(run: Run) -> list[str]:
    """What each execution of a run announced."""
    return [
        event.message.partition(" (its start took")[0]
        for event in run.events(T.ENGINE_EVENT)
        if event.message.startswith("SQLMesh execution of")
    ]


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_terminated_run_lets_the_model_in_flight_finish_and_leaves_nothing_behind(
    tmp_path: Path, executor: str
) -> None:
    shop = warehouse(tmp_path / "project", models=SLOW, tasks=1)
    home = dagster_home(tmp_path / "home")
    gate = shop.project / "gate" / "slow.two"
    gate.mkdir(parents=True)
    with Launch(shop.project, home, executor, at=NEXT_DAY) as launch:
        launch.wait_for((gate / "reached").exists)
        launch.terminate()
        launch.wait_for(lambda: launch.status is dg.DagsterRunStatus.CANCELING)
        # Models shorter than that may share a look at the run.
        time.sleep(FRESH_SECONDS)
        (gate / "open").touch()

        assert not launch.leftover_processes
        assert launch.status is dg.DagsterRunStatus.CANCELED, launch.told()
        assert statuses(launch.run)["slow.two"] == "executed", launch.told()
        assert statuses(launch.run)["slow.last"] == "cancelled"
        assert executions(home) == 1
        # A person has stopped it: the tick waits for the models' next cron.
        (tick,) = tick_until_idle(shop, home, NEXT_DAY)
        held = {model["model"]: model["reason"] for model in tick["models"] if model["due"]}
        assert held.keys() == {"slow.last"}
        assert "cancelled" in held["slow.last"]

        (day_after,) = tick_until_idle(shop, home, NEXT_DAY.replace(day=10))[:1]
        assert day_after["run_id"] is not None
        assert disagreements(launch.instance, shop, PLANNED_AT) == []


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_step_retry_is_one_further_execution_of_what_has_not_succeeded(
    tmp_path: Path, database: Database, executor: str
) -> None:
    shop = warehouse(tmp_path / "project", database)
    home = dagster_home(tmp_path / "home")
    shop.fail("shop.totals")
    with Launch(shop.project, home, executor, at=NEXT_DAY, retries=1) as launch:
        launch.wait_for(lambda: launch.run.steps(T.STEP_UP_FOR_RETRY))
        shop.fail()
        run = launch.finish()

        assert run.success, launch.told()
        assert run.steps(T.STEP_UP_FOR_RETRY) == {"shop__totals"}
        assert executions(home) == 2
        assert counts(run) == [
            "SQLMesh execution of 4 models started",
            "SQLMesh execution of 2 models started",
        ]
        assert set(statuses(run).values()) == {"executed"}
        assert disagreements(launch.instance, shop, PLANNED_AT) == []


def test_a_model_that_fails_again_fails_its_step_for_good(
    tmp_path: Path, database: Database
) -> None:
    shop = warehouse(tmp_path / "project", database)
    home = dagster_home(tmp_path / "home")
    shop.fail("shop.totals")
    with Launch(shop.project, home, "multiprocess_2", at=NEXT_DAY, retries=1) as launch:
        run = launch.finish()

        assert not run.success
        assert executions(home) == 2, launch.told()
        assert run.steps(T.STEP_FAILURE) == {"shop__totals"}
        assert statuses(run)["shop.best"] == "skipped"


@pytest.mark.parametrize("executor", ["multiprocess_2", "subprocess"])
def test_executed_again_from_its_failure_a_run_executes_what_had_not_succeeded(
    tmp_path: Path, postgres_server: Server, executor: str
) -> None:
    shop = warehouse(tmp_path / "project", postgres_server.database())
    home = dagster_home(tmp_path / "home", postgres_server.database().dagster_yaml)
    shop.fail("shop.totals audit")
    with Launch(shop.project, home, executor, at=NEXT_DAY) as launch:
        assert not launch.finish().success
        failed = launch.run_id
    shop.fail()
    with Launch(shop.project, home, executor, at=NEXT_DAY, again=failed) as launch:
        run = launch.finish()

        assert run.success, launch.told()
        assert run.steps(T.STEP_START) == {"shop__totals", "shop__best"}
        assert statuses(run) == {"shop.totals": "executed", "shop.best": "executed"}
        assert executions(home) == 2
        assert disagreements(launch.instance, shop, PLANNED_AT) == []


@pytest.mark.parametrize("auto_upstream", [True, False])
def test_upstream_models_that_miss_intervals_come_along_unless_that_is_off(
    tmp_path: Path, instance: dg.DagsterInstance, auto_upstream: bool
) -> None:
    shop: Warehouse = warehouse(tmp_path / "project")
    automation = Automation.of(shop.project, instance, auto_upstream=auto_upstream)
    run = automation.run(["shop/totals"], NEXT_DAY)

    assert run.success
    assert statuses(run)["shop.totals"] == "executed"
    assert ("shop.events" in statuses(run)) is auto_upstream
    made = runless(instance, "shop/events")
    assert [each.metadata["sqlmesh/run_id"].value for each in made] == [run.run_id] * auto_upstream
    until = NEXT_DAY if auto_upstream else PLANNED_AT
    assert shop.intervals()["shop.events"][-1][1] == until.isoformat()


def test_a_plan_that_changes_the_environment_in_the_middle_of_a_run_is_followed(
    tmp_path: Path, database: Database
) -> None:
    shop = warehouse(tmp_path / "project", database, models=SLOW, tasks=1)
    home = dagster_home(tmp_path / "home")
    gate = shop.project / "gate" / "slow.two"
    gate.mkdir(parents=True)
    with Launch(shop.project, home, "in_process", at=NEXT_DAY) as launch:
        launch.wait_for((gate / "reached").exists)
        changed = SLOW["models/last.py"].replace('"x": [1]', '"x": [2]')
        assert changed != SLOW["models/last.py"]
        (shop.project / "models" / "last.py").write_text(changed)
        plan(shop.project, PLANNED_AT)
        (gate / "open").touch()
        run = launch.finish()

        assert run.success, launch.told()
        told = "A plan changed the environment: SQLMesh begins anew with what is left"
        assert told in [event.message for event in run.events(T.ENGINE_EVENT)]
        assert set(statuses(run).values()) == {"executed"}
        assert shop.query("SELECT x FROM slow.last") == [(2,)]
        assert disagreements(launch.instance, shop, PLANNED_AT) == []
