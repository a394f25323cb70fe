"""A run that is told to stop at once: what its models do in the database is cancelled."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest
from support.agreement import tick_until_idle
from support.endless import endless_warehouse, running
from support.executors import Launch, dagster_home
from support.postgres import Database
from support.warehouse import NEXT_DAY, sleeping

from dagster_sqlmesh_automation.assets.dagster_internals import is_marked_as_cancelled
from dagster_sqlmesh_automation.assets.execution import hard_stop
from dagster_sqlmesh_automation.config.settings import PREFIX

LAST = {"models/last.py": sleeping("shop.last", ["shop.sibling"])}


def force(launch: Launch) -> None:
    """What the UI does for a run that is being terminated: Force termination immediately."""
    run = launch.instance.get_run_by_id(launch.run_id)
    assert run is not None
    assert not run.is_cancelable  # the UI offers nothing else then
    launch.instance.report_run_canceled(run)


def interrupt(launch: Launch) -> None:
    """What Ctrl-C does, and a container that is stopped."""
    time.sleep(hard_stop._ONE_INTERRUPT_SECONDS)
    launch.process.send_signal(signal.SIGINT)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("executor", "isolation", "again"),
    [
        pytest.param("in_process", "thread", force, id="forced"),
        pytest.param("in_process", "process", interrupt, id="interrupted_twice"),
        pytest.param("multiprocess_2", "process", force, id="forced_in_processes"),
    ],
)
def test_a_run_that_is_to_stop_at_once_leaves_no_statement_behind(
    tmp_path: Path,
    database: Database,
    executor: str,
    isolation: str,
    again: Callable[[Launch], None],
) -> None:
    shop = endless_warehouse(tmp_path / "project", database, LAST)
    home = dagster_home(tmp_path / "home")
    isolated = {f"{PREFIX}ISOLATION": isolation}
    with Launch(shop.project, home, executor, at=NEXT_DAY, variables=isolated) as launch:
        launch.wait_for(lambda: "shop.sibling" in launch.run.by_name() and running(database))
        launch.terminate()
        launch.wait_for(lambda: launch.status is dg.DagsterRunStatus.CANCELING)
        again(launch)
        assert not launch.leftover_processes
        assert launch.status is dg.DagsterRunStatus.CANCELED, launch.told()
        assert running(database) == []
        outcomes = statuses(launch)
        assert outcomes["shop.endless"] == "cancelled", launch.told()
        assert outcomes["shop.reader"] == "cancelled"
        assert "stopped at once: cancelling shop.endless" in launch.told()
        forced = is_marked_as_cancelled(launch.instance, launch.run_id)
        assert forced is (again is force)


@pytest.mark.slow
def test_models_that_a_person_has_stopped_wait_for_their_next_cron_tick(
    tmp_path: Path,
) -> None:
    shop = endless_warehouse(tmp_path / "project")
    home = dagster_home(tmp_path / "home")
    grace = {f"{PREFIX}CANCEL_GRACE_SECONDS": "1"}
    with Launch(shop.project, home, "in_process", at=NEXT_DAY, variables=grace) as launch:
        launch.wait_for(lambda: "shop.sibling" in launch.run.by_name())
        launch.terminate()
        launch.finish()
        assert statuses(launch)["shop.endless"] == "cancelled", launch.told()
        ticks = tick_until_idle(shop, home, NEXT_DAY)
    held = {model["model"]: model["reason"] for model in ticks[0]["models"] if model["due"]}
    assert "cancelled" in held["shop.endless"]
    assert [tick["run_id"] for tick in ticks] == [None]


def statuses(launch: Launch) -> dict[str, str]:
    return {name: outcome.status.value for name, outcome in launch.run.by_name().items()}
