"""A daemon that is killed and comes back: one run catches up with all that became due meanwhile."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import dagster as dg
import pytest
from support.agreement import disagreements
from support.deployment import Deployment, LiveRun
from support.warehouse import NEXT_DAY, PLANNED_AT, Warehouse, warehouse

from dagster_sqlmesh_automation.assets.ledger.run_tags import EXECUTION_TIME_TAG

pytestmark = pytest.mark.slow

MODELS = frozenset(f"shop/{name}" for name in ("events", "customers", "totals", "best"))


def await_webserver(deployment: Deployment) -> None:
    deployment.wait_for("the webserver", lambda: deployment.query("query { version }"))


def caught_up(deployment: Deployment, before: int) -> list[LiveRun]:
    """The runs since then, once a tick finds nothing due any more."""
    await_webserver(deployment)
    seen = {tick.tick_id for tick in deployment.ticks()}
    deployment.wait_for("a run", lambda: len(deployment.runs()) > before)
    for run in deployment.runs():
        deployment.wait_for_run(run.run_id)
    deployment.wait_for_tick(
        "a tick with nothing due",
        lambda tick: tick.tick_id not in seen and "0 of 4 models due" in (tick.skip_reason or ""),
    )
    return deployment.runs()[before:]


@pytest.mark.campaign
def test_after_an_outage_one_run_catches_up_and_nothing_runs_twice(tmp_path: Path) -> None:
    shop: Warehouse = warehouse(tmp_path / "shop")
    home = tmp_path / "home"

    with Deployment(home, shop.project, ENABLED="false", INTERVAL_SECONDS=2) as deployment:
        await_webserver(deployment)
        # The last run before the outage was done for a moment weeks ago.
        first = deployment.launch(sorted(MODELS), **{EXECUTION_TIME_TAG: NEXT_DAY.isoformat()})
        assert deployment.wait_for_run(first).status == "SUCCESS"
        os.killpg(deployment.process_group, signal.SIGKILL)

    with Deployment(home, shop.project, ENABLED="true", INTERVAL_SECONDS=2) as deployment:
        runs = caught_up(deployment, 1)
        assert [run.status for run in runs] == ["SUCCESS"]
        assert runs[0].assets == MODELS
        assert len(deployment.executing_processes()) == 2
        made = deployment.materializations(MODELS)
        for asset in MODELS:
            by_run = [each.run_id for each in made[asset] if each.run_id]
            assert by_run == [runs[0].run_id, first]
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert disagreements(instance, shop, PLANNED_AT) == []
