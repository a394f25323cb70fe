"""Runs that were killed: what the next tick reports, requests again, and leaves alone."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest
from support.executors import Launch, dagster_home
from support.outcome_helpers import day, held_project, recorded, runless
from support.schema import invoke
from support.tables import evaluated
from support.ticks import Automation

from dagster_sqlmesh_automation.assets.ledger.run_tags import PROCESS_TAG
from dagster_sqlmesh_automation.automation.tick.sensor import SqlmeshAutomationSensor
from dagster_sqlmesh_automation.automation.upkeep.recovery import end_dead_runs


@dataclass
class Killed:
    """A run whose process was killed while ``slow.held`` was being evaluated.

    ``first`` had been reported, ``quick`` evaluated and not reported, ``after`` not begun.
    """

    automation: Automation
    run_id: str

    def tick(self) -> tuple[set[str], str | None, list[str]]:
        """A tick as the daemon has it: what it requests, why it skips, and its log."""
        sensor = self.automation.location.sensor
        assert isinstance(sensor, SqlmeshAutomationSensor)
        lines = list(end_dead_runs(self.automation.instance))
        with dg.build_sensor_context(
            instance=self.automation.instance, repository_def=self.automation.repository
        ) as context:
            data = sensor.evaluate_tick(context)
        requested = {
            key.to_user_string()
            for request in data.run_requests or ()
            for key in request.asset_selection or ()
        }
        return requested, data.skip_message, lines


@pytest.fixture
def killed(tmp_path: Path) -> Iterator[Killed]:
    gate = tmp_path / "gate"
    project = held_project(tmp_path / "small", gate)
    with Launch(project, dagster_home(tmp_path / "home"), "in_process") as launch:
        launch.wait_for((gate / "reached").exists)
        launch.wait_for(lambda: "slow.quick" in launch.run.by_name())
        launch.wait_for(lambda: recorded(launch.run, "slow/first").step == "success")
        launch.kill_all()
        (gate / "open").touch()
        yield Killed(Automation.of(project, launch.instance), launch.run.run_id)


def fail(killed: Killed) -> None:
    """As Dagster does with a run that it launched and whose process is gone."""
    instance = killed.automation.instance
    run = instance.get_run_by_id(killed.run_id)
    assert run is not None
    instance.report_run_failed(run, "Run execution process unexpectedly exited with exit code -9")


def test_while_the_run_may_live_its_models_are_held(killed: Killed) -> None:
    requested, skipped, _ = killed.tick()
    assert requested == set()
    assert skipped is not None
    assert f"run {killed.run_id} is evaluating it" in skipped
    assert runless(killed.automation.instance, "slow/quick") == []


def test_the_next_tick_reports_what_was_evaluated_and_requests_the_rest(killed: Killed) -> None:
    fail(killed)
    instance = killed.automation.instance
    requested, _, _ = killed.tick()

    assert requested == {"slow/held", "slow/after", "slow/last"}
    (quick,) = runless(instance, "slow/quick")
    assert quick.metadata["sqlmesh/run_id"].value == killed.run_id
    assert quick.metadata["sqlmesh/outcome"].value == "executed"
    for asset in ("slow/first", "slow/held", "slow/after", "slow/last"):
        assert runless(instance, asset) == []


def test_what_has_been_reported_once_is_not_reported_again(killed: Killed) -> None:
    fail(killed)
    for _ in range(3):
        killed.tick()
    # A code server that starts anew remembers nothing.
    again = Killed(Automation.of(killed.automation.project, killed.automation.instance), "")
    again.tick()
    assert len(runless(killed.automation.instance, "slow/quick")) == 1


def test_what_sqlmesh_recorded_and_the_ledger_did_not_is_reported_too(killed: Killed) -> None:
    """As if it had been killed between SQLMesh's record of the interval and ours."""
    import sqlalchemy as db
    from dagster._core.storage.event_log.schema import SqlEventLogStorageTable as Events

    fail(killed)
    instance = killed.automation.instance
    quick = Events.c.event.contains("slow.quick executed")
    with instance.event_log_storage.run_connection(killed.run_id) as connection:  # type: ignore[attr-defined]
        assert connection.execute(db.delete(Events).where(quick)).rowcount == 1

    requested, _, _ = killed.tick()

    assert requested == {"slow/held", "slow/after", "slow/last"}
    (materialization,) = runless(instance, "slow/quick")
    assert materialization.metadata["sqlmesh/outcome"].value == "executed"
    ((start, end),) = evaluated(materialization.metadata)
    assert start == day(2).replace("2026-10", "2024-01")
    assert end <= datetime.now(UTC).isoformat()


def test_what_is_in_the_log_and_not_yet_the_assets_last_is_made_so_and_not_reported_twice(
    killed: Killed,
) -> None:
    """As if it had been killed between the two transactions in which PostgreSQL stores it."""
    import sqlalchemy as db
    from dagster._core.storage.event_log.schema import AssetKeyTable as Assets
    from dagster._core.utils import make_new_run_id
    from dagster_shared.serdes import deserialize_value, serialize_value

    fail(killed)
    instance = killed.automation.instance
    first = dg.AssetKey(["slow", "first"])

    def last() -> float:
        (record,) = instance.get_asset_records([first])
        assert record.asset_entry.last_materialization is not None
        return record.asset_entry.last_materialization.timestamp

    reported = last()
    row = Assets.c.asset_key == first.to_string()
    with instance.event_log_storage.index_connection() as connection:  # type: ignore[attr-defined]
        ((text,),) = connection.execute(db.select(Assets.c.last_materialization).where(row))
        newest = deserialize_value(text, dg.EventLogRecord)
        before = newest.event_log_entry._replace(
            timestamp=reported - 3600, run_id=make_new_run_id()
        )
        older = serialize_value(newest._replace(event_log_entry=before))
        connection.execute(db.update(Assets).where(row).values(last_materialization=older))
    assert last() == reported - 3600

    killed.tick()

    assert runless(instance, "slow/first") == []
    assert last() == reported


def test_a_tick_by_hand_whose_process_is_gone_no_longer_holds_its_models(killed: Killed) -> None:
    """Dagster looks after the runs that it launches; nobody does after those of the CLI."""
    instance = killed.automation.instance
    code = (
        "from dagster_sqlmesh_automation.assets.ledger.process import this_process;"
        "print(this_process())"
    )
    gone = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    instance.add_run_tags(killed.run_id, {PROCESS_TAG: gone.stdout.strip()})
    requested, _, lines = killed.tick()

    run = instance.get_run_by_id(killed.run_id)
    assert run is not None
    assert run.status is dg.DagsterRunStatus.FAILURE
    assert [killed.run_id in line for line in lines] == [True]
    assert requested == {"slow/held", "slow/after", "slow/last"}


def test_a_run_of_the_cli_bears_its_process_and_is_ended_by_nobody_else(
    example: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    done = invoke(
        "tick", "--project", example, "--at", "2026-10-14T00:05", "--json", DAGSTER_HOME=home
    )
    assert done.exit_code == 0, done.stderr
    with dg.DagsterInstance.from_config(str(home)) as instance:
        (run,) = instance.get_runs()
        assert int(run.tags[PROCESS_TAG].split(":")[1]) == os.getpid()
        assert list(end_dead_runs(instance)) == []
        instance.run_storage.handle_run_event(  # as if it went on
            run.run_id,
            dg.DagsterEvent(
                event_type_value=dg.DagsterEventType.RUN_START.value, job_name=run.job_name
            ),
        )
        assert list(end_dead_runs(instance)) == []
