"""An execution that is stopped before its end: who stopped it says what becomes of the rest."""

from __future__ import annotations

import signal
from pathlib import Path

import dagster as dg
import psycopg2
import pytest
from dagster._core.storage.event_log import InMemoryEventLogStorage
from support.agreement import tick_until_idle
from support.executors import Launch, dagster_home
from support.ticks import Automation
from support.warehouse import NEXT_DAY, Warehouse, sleeping, warehouse

MODELS = {f"models/m{number}.py": sleeping(f"slow.m{number}") for number in range(5)}


class RefusesOneOutcome(InMemoryEventLogStorage):
    """Dagster's storage, which once has too many connections to take a model's outcome."""

    refused = False

    def store_event(self, event: dg.EventLogEntry) -> None:
        if not self.refused and "slow.m1 executed" in event.message:
            self.refused = True
            raise psycopg2.OperationalError("FATAL: sorry, too many clients already")
        super().store_event(event)


def test_an_outcome_that_the_storage_refuses_leaves_the_rest_to_the_next_tick(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    instance.event_log_storage.__class__ = RefusesOneOutcome
    shop = warehouse(tmp_path / "project", models=MODELS, tasks=1)
    automation = Automation.of(shop.project, instance)
    before = shop.intervals()
    _, run = automation.tick_and_run(NEXT_DAY)
    assert run is not None
    assert not run.success
    assert {outcome.status.value for outcome in run.outcomes.values()} <= {"executed"}
    evaluated = {name for name, intervals in shop.intervals().items() if intervals != before[name]}
    left = {f"slow/m{number}" for number in range(5)} - {
        name.replace(".", "/") for name in evaluated
    }
    assert left
    # At once, and not at the models' next cron tick.
    tick, second = automation.tick_and_run(NEXT_DAY)
    assert tick.requested == left
    assert second is not None
    assert second.success


@pytest.mark.slow
def test_a_run_whose_process_is_told_to_end_is_not_cancelled(tmp_path: Path) -> None:
    shop, gate = gated(tmp_path)
    home = dagster_home(tmp_path / "home")
    with Launch(shop.project, home, "in_process", at=NEXT_DAY) as launch:
        launch.wait_for((gate / "reached").exists)
        launch.process.send_signal(signal.SIGTERM)  # as an eviction does, and no person
        launch.wait_for(lambda: launch.run.steps(dg.DagsterEventType.STEP_FAILURE))
        (gate / "open").touch()
        launch.finish()
        assert launch.status is dg.DagsterRunStatus.FAILURE, launch.told()
        assert "cancelled" not in statuses(launch)
        ticks = tick_until_idle(shop, home, NEXT_DAY)
    assert "executed" in {model["outcome"] for model in ticks[0]["models"]}


def gated(folder: Path) -> tuple[Warehouse, Path]:
    """A project one of whose models waits at a gate."""
    shop = warehouse(folder / "project", models=MODELS, tasks=1)
    gate = shop.project / "gate" / "slow.m1"
    gate.mkdir(parents=True)
    return shop, gate


def statuses(launch: Launch) -> set[str]:
    return {outcome.status.value for outcome in launch.run.outcomes.values()}
