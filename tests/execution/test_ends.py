"""What SQLMesh does before its first model and after its last one, and what fails there."""

from __future__ import annotations

import re
from pathlib import Path

import dagster as dg
import pytest
from support.agreement import disagreements
from support.executors import Launch, dagster_home, executions
from support.outcome_helpers import Recorded, recorded
from support.statements import RAW, add_statements, executed, statement
from support.ticks import Automation, Run
from support.warehouse import NEXT_DAY, PLANNED_AT, Warehouse, warehouse

T = dg.DagsterEventType
EXECUTORS = ["in_process", "multiprocess_2", "subprocess"]
NAMES = ("events", "customers", "totals", "best")
ASSETS = [f"shop/{name}" for name in NAMES]


@pytest.fixture
def shop(tmp_path: Path) -> Warehouse:
    shop = warehouse(tmp_path / "project", raw=RAW)
    add_statements(shop, "before_all", "after_all")
    return shop


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return dagster_home(tmp_path / "home")


def statuses(run: Run) -> dict[str, str]:
    return {name: outcome.status.value for name, outcome in run.by_name().items()}


def described(run: Run, step: str) -> str:
    """What a step that failed says."""
    data = run.failure(step)
    user = data.user_failure_data
    text = user.description if user is not None else str(data.error.cause or data.error)
    return re.sub(r"\s+", " ", text)


def quoted(stage: str) -> str:
    """A statement's beginning, as SQLMesh renders it."""
    return statement(stage)[: len("INSERT INTO raw.statements")]


@pytest.mark.parametrize("executor", EXECUTORS)
def test_after_all_fails_the_run_once_and_leaves_the_models_as_reported(
    shop: Warehouse, home: Path, executor: str
) -> None:
    shop.fail("after_all")
    with Launch(shop.project, home, executor, at=NEXT_DAY, retries=1) as launch:
        run = launch.finish()

        assert launch.status is dg.DagsterRunStatus.FAILURE, launch.told()
        assert set(statuses(run).values()) == {"executed"}
        assert {recorded(run, asset).materializations for asset in ASSETS} == {1}
        # One step answers for it, which no other one follows.
        assert run.steps(T.STEP_FAILURE) == {"shop__best"}, launch.told()
        assert run.steps(T.STEP_SUCCESS) == {"shop__events", "shop__customers", "shop__totals"}
        why = described(run, "shop__best")
        assert "'after_all' statement" in why
        assert quoted("after_all") in why
        assert "shop.best itself is as reported" in why
        assert executions(home) == 1, launch.told()
        assert not launch.leftover_processes
        assert disagreements(launch.instance, shop, PLANNED_AT) == []


def test_executed_again_from_its_failure_the_run_repeats_after_all_and_no_model(
    shop: Warehouse, home: Path
) -> None:
    executor = "multiprocess_2"
    shop.fail("after_all")
    with Launch(shop.project, home, executor, at=NEXT_DAY) as launch:
        assert not launch.finish().success
        failed = launch.run_id
    with Launch(shop.project, home, executor, at=NEXT_DAY, again=failed) as launch:
        run = launch.finish()
        assert not run.success, launch.told()
        assert "'after_all' statement" in described(run, "shop__best")
        failed = launch.run_id
    assert executed(shop, "after_all") == 0
    shop.fail()
    with Launch(shop.project, home, executor, at=NEXT_DAY, again=failed) as launch:
        run = launch.finish()

        assert run.success, launch.told()
        assert statuses(run) == {"shop.best": "up_to_date"}
        assert executed(shop, "after_all") == 1
        assert disagreements(launch.instance, shop, PLANNED_AT) == []


def test_a_model_that_fails_is_not_blamed_on_after_all(
    shop: Warehouse, instance: dg.DagsterInstance
) -> None:
    shop.fail("shop.totals", "after_all")
    run = Automation.of(shop.project, instance).run(ASSETS, NEXT_DAY)

    assert statuses(run) == {
        "shop.events": "executed",
        "shop.customers": "executed",
        "shop.totals": "failed",
        "shop.best": "skipped",
    }
    assert recorded(run, "shop/customers") == Recorded("success", 1, {"stays_true": "passed"})
    assert "told to fail" in described(run, "shop__totals")
    assert "after_all" not in described(run, "shop__totals")
    told = [event.message for event in run.events(T.ENGINE_EVENT)]
    (end,) = (message for message in told if message.startswith("SQLMesh gave up"))
    assert "'after_all' statement" in end


def test_models_with_several_batches_fail_as_themselves_when_after_all_fails_too(
    shop: Warehouse, instance: dg.DagsterInstance
) -> None:
    """Their failure is final when SQLMesh is done with every model."""
    later = NEXT_DAY.replace(day=14)
    shop.fail("shop.events", "after_all")
    run = Automation.of(shop.project, instance).run(ASSETS, later)

    assert statuses(run) == {
        "shop.events": "failed",
        "shop.customers": "skipped",
        "shop.totals": "skipped",
        "shop.best": "skipped",
    }
    assert run.steps(T.STEP_FAILURE) == {"shop__events"}


@pytest.mark.parametrize("executor", ["in_process", "multiprocess_2"])
def test_before_all_is_named_by_what_was_not_evaluated_for_it(
    shop: Warehouse, home: Path, executor: str
) -> None:
    shop.fail("before_all")
    with Launch(shop.project, home, executor, at=NEXT_DAY) as launch:
        run = launch.finish()

        assert not run.success
        assert statuses(run) == {}
        assert run.steps(T.STEP_FAILURE) == {"shop__events"}
        why = described(run, "shop__events")
        assert "shop.events was not evaluated: the SQLMesh execution stopped" in why
        assert "'before_all' statement" in why
        assert quoted("before_all") in why
        assert executions(home) == 1
        assert executed(shop, "after_all") == 0


def test_before_all_fails_no_model_that_had_nothing_to_do(
    shop: Warehouse, instance: dg.DagsterInstance
) -> None:
    automation = Automation.of(shop.project, instance)
    assert automation.run(["shop/events", "shop/customers"], NEXT_DAY).success
    shop.fail("before_all")
    run = automation.run(ASSETS, NEXT_DAY)

    assert statuses(run) == {"shop.events": "up_to_date", "shop.customers": "up_to_date"}
    assert run.steps(T.STEP_FAILURE) == {"shop__totals"}
    assert "'before_all' statement" in described(run, "shop__totals")
