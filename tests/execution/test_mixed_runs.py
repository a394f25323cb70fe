"""Runs that hold assets of other kinds too, which make tables that models read."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from support.executors import dagster_home
from support.mixed import MODELS, RAW, definitions, others
from support.projects import ROOT
from support.statements import add_statements
from support.ticks import Automation, Run
from support.warehouse import NEXT_DAY, PLANNED_AT, Warehouse, warehouse

from dagster_sqlmesh_automation import AutomationSettings, SqlmeshDue, build_definitions
from dagster_sqlmesh_automation.assets.ledger.ledger import read_history
from dagster_sqlmesh_automation.automation.definitions import Location


@pytest.fixture
def shop(tmp_path: Path) -> Warehouse:
    return warehouse(tmp_path / "project", models=MODELS, raw=RAW)


def run(shop: Warehouse, instance: dg.DagsterInstance, *assets: str) -> Run:
    """Runs some assets in this process."""
    job = definitions(shop.project, dg.in_process_executor).resolve_implicit_global_asset_job_def()
    keys = {dg.AssetKey(asset.split("/")) for asset in assets}
    result = job.get_subset(asset_selection=keys or None).execute_in_process(
        instance=instance,
        raise_on_error=False,
        tags={"sqlmesh/execution_time": NEXT_DAY.isoformat()},
    )
    outcomes = read_history(instance, result.run_id, "sqlmesh_prod").outcomes
    return Run(instance, result.run_id, result.success, outcomes)


def numbers(shop: Warehouse) -> dict[str, int]:
    return {name.removeprefix("shop."): rows[0][0] for name, rows in shop.tables().items()}


def executions(done: Run) -> int:
    return read_history(done.instance, done.run_id, "sqlmesh_prod").executions


def test_models_read_what_other_assets_of_the_run_have_made(
    shop: Warehouse, instance: dg.DagsterInstance
) -> None:
    """One execution each for what awaits nothing, ``loaded``, and ``scored`` too."""
    done = run(shop, instance)

    assert done.success
    assert numbers(shop) == {"first": 3, "other": 100, "second": 30, "last": 133}
    assert executions(done) == 3
    events = done.events(dg.DagsterEventType.ENGINE_EVENT)
    starts = [each.message for each in events if "SQLMesh execution of" in each.message]
    assert len(starts) == 3
    # The standalone audit counts where its step is the first.
    assert re.search("started; [34] of the run wait for other steps", starts[0])
    assert {check.passed for check in done.checks().values()} == {True}
    assert {*done.materialized()} == {
        "raw/loaded",
        "ml/scored",
        *(f"shop/{name}" for name in ("first", "other", "second", "last")),
    }


def test_models_that_await_the_same_share_one_execution(
    shop: Warehouse, instance: dg.DagsterInstance
) -> None:
    done = run(shop, instance, "ml/scored", "shop/second", "shop/last")

    assert done.success
    assert executions(done) == 1


def test_what_an_asset_fails_to_make_is_not_read(
    shop: Warehouse, instance: dg.DagsterInstance
) -> None:
    shop.query("DROP TABLE ml.scored")
    shop.query("CREATE VIEW ml.scored AS SELECT CAST(0 AS BIGINT) AS n")
    done = run(shop, instance)

    assert not done.success
    assert done.steps(dg.DagsterEventType.STEP_FAILURE) == {"ml__scored"}
    assert {name: each.status.value for name, each in done.by_name().items()} == {
        "shop.first": "executed",
        "shop.other": "executed",
    }


def blocking_check(passed: bool) -> dg.AssetChecksDefinition:
    """A blocking check of a user's own on ``shop.other``."""

    @dg.asset_check(asset=dg.AssetKey(["shop", "other"]), blocking=True)
    def accepted() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=passed)

    return accepted


def between() -> dg.AssetsDefinition:
    """A graph of a user's own that reads ``shop.other``, ``shop.last`` reads it, and it fails."""

    @dg.op(ins={"other": dg.In(dg.Nothing)})
    def refuse() -> int:
        raise ValueError("refused")

    @dg.graph_asset(key=["ml", "scored"], ins={"other": dg.AssetIn(key=["shop", "other"])})
    def scored(other: object) -> object:
        return refuse(other)

    return scored


@pytest.mark.parametrize(
    ("step", "waiting"),
    [
        pytest.param(lambda: blocking_check(False), {"shop.last"}, id="a blocking check"),
        pytest.param(between, {"shop.second", "shop.last"}, id="a graph of ops"),
        pytest.param(lambda: blocking_check(True), set(), id="a blocking check that passes"),
    ],
)
def test_a_model_waits_for_every_step_that_dagster_orders_before_its_own(
    shop: Warehouse, instance: dg.DagsterInstance, step: Any, waiting: set[str]
) -> None:
    """Dagster stops the steps below one that fails, so SQLMesh has not evaluated their models."""
    settings = AutomationSettings(project=shop.project, external_asset_key="{schema}/{name}")
    user_step = step()
    user_definitions = (
        dg.Definitions(asset_checks=[user_step])
        if isinstance(user_step, dg.AssetChecksDefinition)
        else dg.Definitions(assets=[user_step])
    )
    merged = dg.Definitions.merge(user_definitions, build_definitions(settings))
    result = merged.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance,
        raise_on_error=False,
        tags={"sqlmesh/execution_time": NEXT_DAY.isoformat()},
    )

    models = {"shop.first", "shop.other", "shop.second", "shop.last"}
    history = read_history(instance, result.run_id, "sqlmesh_prod")
    evaluated = {outcome.name for outcome in history.outcomes.values()} & models
    assert result.success == (not waiting)
    assert evaluated == models - waiting


@pytest.mark.slow
@pytest.mark.parametrize(
    "executor", ["multiprocess_2", pytest.param("subprocess", marks=pytest.mark.campaign)]
)
def test_so_they_do_where_each_step_has_a_process(
    shop: Warehouse, tmp_path: Path, executor: str
) -> None:
    home = dagster_home(tmp_path / "home")
    done = subprocess.run(
        [sys.executable, "-m", "support.mixed"],
        cwd=ROOT / "tests",
        env={
            **os.environ,
            "DAGSTER_HOME": str(home),
            "MIXED_PROJECT": str(shop.project),
            "MIXED_EXECUTOR": executor,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    assert numbers(shop) == {"first": 3, "other": 100, "second": 30, "last": 133}
    with dg.DagsterInstance.from_config(str(home)) as instance:
        (found,) = instance.get_runs()
        assert read_history(instance, found.run_id, "sqlmesh_prod").executions == 3


# Ticks: each requests models alone, so that what stands between two of them runs elsewhere


def test_a_model_can_wait_for_the_asset_between_it_and_another_model(
    shop: Warehouse, instance: dg.DagsterInstance
) -> None:
    """Without that it is requested with the other, and reads the table as it stands."""
    scored = dg.AssetSelection.assets("ml/scored")
    updated = dg.AutomationCondition.all_deps_updated_since_cron("0 0 * * *").allow(scored)
    settings = AutomationSettings(project=shop.project, external_asset_key="{schema}/{name}")
    location = Location(settings)
    ours = location.definitions.map_asset_specs(
        func=lambda spec: (
            spec.replace_attributes(automation_condition=SqlmeshDue() & updated)
            if spec.key == dg.AssetKey(["shop", "second"])
            else spec
        )
    )
    location.definitions = dg.Definitions.merge(dg.Definitions(assets=others(shop.project)), ours)
    automation = Automation(shop.project, instance, location)

    assert run(shop, instance, "raw/loaded").success
    automation.tick(PLANNED_AT)
    tick, _ = automation.tick_and_run(NEXT_DAY)
    assert tick.requested == {"shop/first", "shop/other"}

    assert run(shop, instance, "ml/scored").success
    tick, done = automation.tick_and_run(NEXT_DAY + timedelta(minutes=1))
    assert tick.requested == {"shop/second", "shop/last"}
    assert done is not None
    assert done.success
    assert numbers(shop) == {"first": 3, "other": 100, "second": 30, "last": 133}


def test_otherwise_models_of_a_tick_do_not_wait_for_it(
    shop: Warehouse, instance: dg.DagsterInstance
) -> None:
    automation = Automation.of(shop.project, instance)
    assert automation.tick(NEXT_DAY).requested == {
        f"shop/{name}" for name in ("first", "other", "second", "last")
    }


def test_an_end_that_fails_holds_up_no_execution_after_it(
    shop: Warehouse, instance: dg.DagsterInstance
) -> None:
    """The run's last execution answers for it: its ``after_all`` does what the others' did not."""
    shop.query("CREATE TABLE raw.statements (stage TEXT, passed INT)")
    add_statements(shop, "after_all")
    shop.fail("after_all")
    done = run(shop, instance)

    assert not done.success
    assert executions(done) == 3
    assert {name: each.status.value for name, each in done.by_name().items()} == dict.fromkeys(
        ("shop.first", "shop.other", "shop.second", "shop.last", "enough"), "executed"
    )
    (answers,) = done.steps(dg.DagsterEventType.STEP_FAILURE)
    assert "enough" in answers
    assert {f"shop/{name}" for name in ("first", "other", "second", "last")} <= {
        *done.materialized()
    }
