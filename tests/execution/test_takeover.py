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
from support.statements import linger
from support.warehouse import NEXT_DAY, PLANNED_AT, Warehouse, sleeping, warehouse

# Two models that read nothing, so that two steps of the run are there from its beginning.
MODELS = {
    "models/one.py": sleeping("slow.one"),
    "models/two.py": sleeping("slow.two", ["slow.one"]),
    "models/other.py": sleeping("slow.other"),
    "models/last.py": sleeping("slow.last", ["slow.two", "slow.other"]),
}
NAMES = ("one", "two", "other", "last")
SUCCESS = dg.DagsterEventType.STEP_SUCCESS


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


def said(launch: Launch) -> list[str]:
    return [event.message for event in launch.run.events(dg.DagsterEventType.ENGINE_EVENT)]


def all_is_well(launch: Launch, shop: Warehouse, home: Path) -> Iterator[str]:
    """What is wrong once the ticks after the run have put right what it left."""
    for document in tick_until_idle(shop, home, NEXT_DAY):
        yield from (f"{each}" for each in document["models"] if each["error"])
    yield from disagreements(launch.instance, shop, PLANNED_AT)


@pytest.mark.parametrize(
    "executor", ["multiprocess_2", pytest.param("subprocess", marks=pytest.mark.campaign)]
)
def test_killed_in_its_first_model_another_step_executes_all_of_it(
    shop: Warehouse, home: Path, executor: str
) -> None:
    held = gate(shop, "slow.one")
    with Launch(shop.project, home, executor, at=NEXT_DAY) as launch:
        launch.wait_for((held / "reached").exists)
        first = kill_executing(launch)
        (held / "open").touch()
        launch.finish()

        assert launch.executing() != first
        assert executions(home) == 2, launch.told()
        assert set(launch.run.by_name()) == {f"slow.{name}" for name in NAMES}
        assert list(all_is_well(launch, shop, home)) == []
        assert executions(home) == 2, "nothing was left to evaluate"


def test_killed_in_a_later_model_another_step_does_again_only_what_is_not_recorded(
    shop: Warehouse, home: Path
) -> None:
    held = gate(shop, "slow.two")
    with Launch(shop.project, home, "subprocess", at=NEXT_DAY) as launch:
        launch.wait_for((held / "reached").exists)
        # Not only their outcomes: a step that dies before its success fails the run.
        launch.wait_for(lambda: {"slow__one", "slow__other"} <= launch.run.steps(SUCCESS))
        first = kill_executing(launch)
        (held / "open").touch()
        run = launch.finish()

        assert launch.executing() != first
        assert executions(home) == 2, launch.told()
        assert "SQLMesh evaluates 2 models in 2 batches" in said(launch)
        assert run.success, launch.told()
        assert {recorded(run, f"slow/{name}").materializations for name in NAMES} == {1}
        assert disagreements(launch.instance, shop, PLANNED_AT) == []


def test_dagsters_multiprocess_executor_gives_up_a_run_whose_step_had_ended_and_a_tick_goes_on(
    shop: Warehouse, home: Path
) -> None:
    """It ends with an error of its own where a process dies after its step's success."""
    held = gate(shop, "slow.two")
    with Launch(shop.project, home, "multiprocess_2", at=NEXT_DAY) as launch:
        launch.wait_for((held / "reached").exists)
        launch.wait_for(lambda: {"slow__one", "slow__other"} <= launch.run.steps(SUCCESS))
        kill_executing(launch)
        (held / "open").touch()
        launch.finish()

        assert launch.status is dg.DagsterRunStatus.FAILURE, launch.told()
        assert list(all_is_well(launch, shop, home)) == []
        assert not launch.leftover_processes


@pytest.mark.parametrize(
    ("stage", "done", "executed"), [("before_all", 0, 2), ("after_all", len(NAMES), 2)]
)
def test_killed_before_its_first_model_or_after_its_last_no_outcome_is_lost_or_doubled(
    shop: Warehouse, home: Path, stage: str, done: int, executed: int
) -> None:
    """The project's statements before and after all models hold the execution there.

    Killed in those after all models, another step's process executes these statements alone.
    """
    held = linger(shop, stage)
    with Launch(shop.project, home, "subprocess", at=NEXT_DAY) as launch:
        launch.wait_for((held / "reached").exists)
        launch.wait_for(lambda: len(launch.run.by_name()) == done)
        kill_executing(launch)
        (held / "reached").unlink()
        (held / "open").touch()
        run = launch.finish()

        assert (held / "reached").exists(), "the statements were executed once more"
        # The step of the process that was killed had its outcome in one case only.
        assert run.success is (stage == "after_all"), launch.told()
        assert executions(home) == executed, launch.told()
        assert list(all_is_well(launch, shop, home)) == []
        assert executions(home) == executed


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
