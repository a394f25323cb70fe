"""The process that executes is killed: another step's process takes over, or the next tick does."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from support.agreement import disagreements, evaluated, tick_until_idle
from support.executors import Launch, dagster_home, executions
from support.outcome_helpers import recorded
from support.warehouse import NEXT_DAY, PLANNED_AT, Warehouse, sleeping, warehouse

# Two models that read nothing, so that two steps of the run are there from its beginning.
MODELS = {
    "models/one.py": sleeping("slow.one"),
    "models/two.py": sleeping("slow.two", ["slow.one"]),
    "models/other.py": sleeping("slow.other"),
    "models/last.py": sleeping("slow.last", ["slow.two", "slow.other"]),
}
NAMES = ("one", "two", "other", "last")


@pytest.fixture
def shop(tmp_path: Path) -> Warehouse:
    return warehouse(tmp_path / "project", models=MODELS, tasks=1)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return dagster_home(tmp_path / "home")


def gate(shop: Warehouse, model: str) -> Path:
    folder = shop.project / "gate" / model
    folder.mkdir(parents=True)
    return folder


def kill_executing(launch: Launch) -> int:
    executing = launch.executing()
    assert executing is not None
    os.kill(executing, signal.SIGKILL)
    return executing


def all_is_well(launch: Launch, shop: Warehouse, home: Path) -> Iterator[str]:
    """What is wrong once the ticks after the run have put right what it left."""
    for document in tick_until_idle(shop, home, NEXT_DAY):
        yield from (f"{each}" for each in document["models"] if each["error"])
    yield from disagreements(launch.instance, shop, PLANNED_AT)


@pytest.mark.parametrize("executor", ["multiprocess_2", "subprocess"])
def test_killed_in_the_middle_of_a_model_another_step_goes_on_with_what_is_left(
    shop: Warehouse, home: Path, executor: str
) -> None:
    held = gate(shop, "slow.two")
    with Launch(shop.project, home, executor, at=NEXT_DAY) as launch:
        launch.wait_for((held / "reached").exists)
        # Its own step is done or about to be; the models that it has recorded are not redone.
        launch.wait_for(lambda: "slow.one" in launch.run.by_name())
        before = set(launch.run.by_name())
        first = kill_executing(launch)
        (held / "open").touch()
        launch.finish()
        run = launch.run

        assert executions(home) == 2, launch.told()
        assert launch.executing() != first
        assert {name for name, o in run.by_name().items() if o.status.value == "executed"} == {
            f"slow.{name}" for name in NAMES
        }, launch.told()
        assert "slow.one" in before
        assert list(all_is_well(launch, shop, home)) == []
        assert executions(home) == 2, "nothing was left to evaluate"


@pytest.mark.parametrize("executor", ["multiprocess_2", "subprocess"])
def test_killed_before_its_first_model_nothing_has_been_executed_and_another_step_does_it(
    shop: Warehouse, home: Path, executor: str
) -> None:
    held = gate(shop, "slow.one")
    with Launch(shop.project, home, executor, at=NEXT_DAY) as launch:
        launch.wait_for((held / "reached").exists)
        kill_executing(launch)
        (held / "open").touch()
        launch.finish()

        assert executions(home) == 2, launch.told()
        assert list(all_is_well(launch, shop, home)) == []
        assert executions(home) == 2


def test_killed_after_its_last_outcome_every_step_still_reports(
    shop: Warehouse, home: Path
) -> None:
    """The end of an execution takes its time where there are statements to run after it."""
    (shop.project / "macros").mkdir()
    (shop.project / "macros" / "linger.py").write_text(LINGER.format(gate=shop.project / "gate"))
    config = shop.project / "config.yaml"
    config.write_text(config.read_text() + "after_all: ['@linger()']\n")
    from support.projects import plan

    plan(shop.project, PLANNED_AT)
    held = gate(shop, "after_all")
    with Launch(shop.project, home, "subprocess", at=NEXT_DAY) as launch:
        launch.wait_for((held / "reached").exists)
        launch.wait_for(lambda: len(launch.run.by_name()) == len(NAMES))
        kill_executing(launch)
        (held / "open").touch()
        run = launch.finish()

        assert {recorded(run, f"slow/{name}").materializations for name in NAMES} == {1}
        assert executions(home) == 1, launch.told()
        assert run.success, launch.told()
        assert disagreements(launch.instance, shop, PLANNED_AT) == []


LINGER = """
import time
from pathlib import Path

from sqlmesh import macro


@macro()
def linger(evaluator):
    gate = Path("{gate}") / "after_all"
    if evaluator.runtime_stage == "after_all" and gate.exists():
        (gate / "reached").touch()
        while not (gate / "open").exists():
            time.sleep(0.02)
    return "SELECT 1"
"""


def test_where_no_step_is_left_the_run_fails_and_the_next_tick_picks_up_the_rest(
    shop: Warehouse, home: Path
) -> None:
    held = gate(shop, "slow.two")
    with Launch(shop.project, home, "multiprocess_2", at=NEXT_DAY) as launch:
        launch.wait_for((held / "reached").exists)
        launch.kill_all()
        (held / "open").touch()
        stored = launch.instance.get_run_by_id(launch.run_id)
        assert stored is not None
        # Run monitoring finds the worker gone.
        launch.instance.report_run_failed(stored, "Detected run worker status FAILED")

        assert list(all_is_well(launch, shop, home)) == []
        assert executions(home) == 1  # the tick's own is counted in its process alone
        for name in NAMES:
            assert len(evaluated(launch.instance, f"slow/{name}")) == 1


def test_a_process_that_waits_for_the_lease_and_dies_is_replaced(
    shop: Warehouse, home: Path
) -> None:
    from filelock import FileLock

    lock = FileLock(shop.project / "warehouse.duckdb.lock")
    with lock, Launch(shop.project, home, "multiprocess_2", at=NEXT_DAY) as launch:

        def ready() -> list[int]:
            return [
                int(claim.value.split(":")[1])
                for event in launch.run.events(dg.DagsterEventType.ENGINE_EVENT)
                if "sqlmesh/execution_claim" in (told := event.event_specific_data.metadata)
                and (claim := told["sqlmesh/process"])
            ]

        launch.wait_for(ready)
        os.kill(ready()[0], signal.SIGKILL)
        launch.wait_for(lambda: len(ready()) > 1)
        lock.release()
        launch.finish()

        assert executions(home) == 1, launch.told()
        assert list(all_is_well(launch, shop, home)) == []
        assert executions(home) == 1
