"""Databases and disks that fail in the middle of a run: a clear failure, and the next tick."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from support.agreement import disagreements, tick_until_idle
from support.executors import Launch, dagster_home, executions
from support.postgres import Server, running_server
from support.schema import invoke
from support.warehouse import NEXT_DAY, PLANNED_AT, Warehouse, sleeping, warehouse

MODELS = {
    "models/one.py": sleeping("slow.one"),
    "models/two.py": sleeping("slow.two", ["slow.one"]),
    "models/last.py": sleeping("slow.last", ["slow.two"]),
}
EXECUTORS = ["in_process", "multiprocess_2"]


def gate(shop: Warehouse) -> Path:
    """Where the run's second model waits."""
    folder = shop.project / "gate" / "slow.two"
    folder.mkdir(parents=True)
    return folder


def failures(launch: Launch) -> str:
    """What the run's failed steps say."""
    return "\n".join(
        f"{event.step_failure_data.error}\n{event.step_failure_data.user_failure_data}"
        for event in launch.run.events(dg.DagsterEventType.STEP_FAILURE)
    )


def recovers(launch: Launch, shop: Warehouse, home: Path) -> None:
    """What a run left behind holds nothing up, and the next ticks put it right."""
    ticks = tick_until_idle(shop, home, NEXT_DAY)
    assert ticks[0]["run_id"] is not None, ticks[0]
    assert {model["error"] for model in ticks[0]["models"]} == {None}
    assert disagreements(launch.instance, shop, PLANNED_AT) == []


@pytest.fixture
def own_server() -> Iterator[Server]:
    """A server that a test may stop."""
    with running_server() as server:
        yield server


@pytest.mark.parametrize("executor", EXECUTORS)
def test_the_state_database_goes_away_in_the_middle_of_a_run_and_comes_back(
    tmp_path: Path, own_server: Server, executor: str
) -> None:
    state = own_server.database()
    shop = warehouse(tmp_path / "project", state=state, models=MODELS, tasks=1)
    home = dagster_home(tmp_path / "home")
    held = gate(shop)
    with Launch(shop.project, home, executor, at=NEXT_DAY) as launch:
        launch.wait_for((held / "reached").exists)
        own_server.stop()
        (held / "open").touch()
        launch.finish()

        assert launch.status is dg.DagsterRunStatus.FAILURE, launch.told()
        assert executions(home) == 1
        assert "connection" in failures(launch), failures(launch)
        assert not launch.leftover_processes
        down = invoke("tick", "--project", shop.project, "--at", f"{NEXT_DAY:%Y-%m-%d}")
        assert down.exit_code == 3, down.output
        assert "is out of reach" in down.stderr, down.stderr

        own_server.start()
        assert state.locks() == 0
        recovers(launch, shop, home)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_the_warehouse_drops_its_connections_in_the_middle_of_a_run(
    tmp_path: Path, postgres_server: Server, executor: str
) -> None:
    tables, state = postgres_server.database(), postgres_server.database()
    shop = warehouse(tmp_path / "project", tables, state=state, models=MODELS, tasks=1)
    home = dagster_home(tmp_path / "home")
    held = gate(shop)
    with Launch(shop.project, home, executor, at=NEXT_DAY) as launch:
        launch.wait_for((held / "reached").exists)
        assert tables.drop_sessions() > 0
        (held / "open").touch()
        launch.finish()

        assert launch.status is dg.DagsterRunStatus.FAILURE, launch.told()
        assert "slow.two failed" in failures(launch), failures(launch)
        assert executions(home) == 1
        assert state.locks() == 0
        recovers(launch, shop, home)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of its own, with room for little."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a disk of its own takes the right to mount one")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_the_disk_of_dagsters_storage_fills_up_in_the_middle_of_a_run(
    tmp_path: Path, small_disk: Path, executor: str
) -> None:
    shop = warehouse(tmp_path / "project", models=MODELS, tasks=1)
    home = dagster_home(small_disk / "home")
    held = gate(shop)
    with Launch(shop.project, home, executor, at=NEXT_DAY) as launch:
        launch.wait_for((held / "reached").exists)
        launch.wait_for(lambda: "slow.one" in launch.run.by_name())
        filler = fill(small_disk)
        (held / "open").touch()
        assert not launch.leftover_processes  # nothing can be read on a full disk either
        filler.unlink()

        assert executions(home) == 1
        assert launch.status is not dg.DagsterRunStatus.SUCCESS
        run = launch.instance.get_run_by_id(launch.run_id)
        assert run is not None
        if not run.is_finished:  # its failure could not be written either; run monitoring sees it
            launch.instance.report_run_failed(run, "Detected run worker status FAILED")
        recovers(launch, shop, home)


def fill(disk: Path) -> Path:
    """Takes all room that is left on a disk."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                continue
    return filler
