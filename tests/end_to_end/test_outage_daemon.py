"""A daemon that is killed and comes back: one run catches up with all that became due meanwhile."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest
from support.deployment import Deployment, LiveRun
from support.warehouse import Warehouse, warehouse

pytestmark = pytest.mark.slow

MODELS = frozenset(f"shop/{name}" for name in ("events", "customers", "totals", "best"))


def caught_up(deployment: Deployment, before: int) -> list[LiveRun]:
    """The runs since then, once a tick finds nothing due any more."""
    deployment.wait_for("the webserver", lambda: deployment.query("query { version }"))
    seen = {tick.tick_id for tick in deployment.ticks()}
    deployment.wait_for("a run", lambda: len(deployment.runs()) > before)
    for run in deployment.runs():
        deployment.wait_for_run(run.run_id)
    deployment.wait_for_tick(
        "a tick with nothing due",
        lambda tick: tick.tick_id not in seen and "0 of 4 models due" in (tick.skip_reason or ""),
    )
    return deployment.runs()[before:]


def test_after_an_outage_one_run_catches_up_and_nothing_runs_twice(tmp_path: Path) -> None:
    shop: Warehouse = warehouse(tmp_path / "shop")
    file = shop.project / "warehouse.duckdb"
    shutil.copy(file, tmp_path / "before.duckdb")
    home = tmp_path / "home"
    settings = {"ENABLED": "true", "INTERVAL_SECONDS": 2}

    with Deployment(home, shop.project, **settings) as deployment:
        (first,) = caught_up(deployment, 0)
        os.killpg(deployment.process_group, signal.SIGKILL)
    # Weeks pass: what SQLMesh had recorded since is due anew.
    shutil.copy(tmp_path / "before.duckdb", file)

    with Deployment(home, shop.project, **settings) as deployment:
        runs = caught_up(deployment, 1)
        assert [run.status for run in runs] == ["SUCCESS"]
        assert runs[0].assets == first.assets == MODELS
        assert len(deployment.executing_processes()) == 2
        made = deployment.materializations(MODELS)
        for asset in MODELS:
            by_run = [each.run_id for each in made[asset] if each.run_id]
            assert by_run == [runs[0].run_id, first.run_id]
