"""Moments ahead of the clock: looked at, never evaluated; and what was recorded ahead is cured."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest
from support import projects
from support.schema import invoke
from support.ticks import Automation
from support.warehouse import Warehouse, warehouse

RESTATE = "sqlmesh_prod_restate"
EVALUATED_AHEAD = {"shop.events", "shop.customers", "shop.totals", "shop.best"}


def in_days(days: int) -> datetime:
    return datetime.now(UTC).replace(microsecond=0) + timedelta(days=days)


@pytest.fixture(scope="module")
def looked_at(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    """One that no test changes."""
    return warehouse(tmp_path_factory.mktemp("looked_at") / "shop")


@pytest.fixture
def shop(tmp_path: Path) -> Warehouse:
    return warehouse(tmp_path / "shop")


def test_a_tick_ahead_of_the_clock_is_refused_before_anything_is_evaluated(
    looked_at: Warehouse, executions: Callable[[], int]
) -> None:
    at = in_days(365).isoformat()
    before = looked_at.intervals(), looked_at.tables()
    result = invoke("tick", "--project", looked_at.project, "--at", at)
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith(f"Error: --at {at} is ahead of the clock")
    assert result.stdout == ""
    assert executions() == 0
    assert (looked_at.intervals(), looked_at.tables()) == before


@pytest.mark.parametrize("command", ["tick --dry-run", "status", "explain shop.events"])
def test_whatever_only_looks_may_look_ahead(looked_at: Warehouse, command: str) -> None:
    at = in_days(30)
    result = invoke(
        *command.split(), "--json", "--project", looked_at.project, "--at", at.isoformat()
    )
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["at"] == at.isoformat()


@pytest.mark.parametrize("command", ["tick", "tick --dry-run", "status", "explain shop.events"])
@pytest.mark.parametrize(
    "at",
    ["9999-12-31T23:59:59", "9999-12-31T23:59:59-05:00", "0001-01-01T00:00+05:00", "1969-12-31"],
)
def test_moments_out_of_reach_are_refused_with_those_that_are_not(command: str, at: str) -> None:
    result = invoke(*command.split(), "--project", "/nowhere", "--at", at)
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)
    assert f"'{at}' is too far away. Accepted: from 1970-01-01 to 20" in result.stderr


def test_a_run_that_is_tagged_with_a_moment_ahead_fails_before_anything_is_evaluated(
    looked_at: Warehouse, instance: dg.DagsterInstance, executions: Callable[[], int]
) -> None:
    before = looked_at.intervals()
    automation = Automation.of(looked_at.project, instance)
    at = in_days(1)
    run = automation.run(["shop/events"], at)
    assert not run.success
    message = str(run.failure("shop__events").error)
    assert f"The run tag sqlmesh/execution_time {at.isoformat()} is ahead of the clock" in message
    assert executions() == 0
    assert looked_at.intervals() == before


# What something else has recorded ahead


def doctor(shop: Warehouse) -> tuple[int, str, str]:
    """The doctor's exit code, and its finding on what was recorded ahead with the cure."""
    result = invoke("doctor", "--json", "--project", shop.project)
    findings = json.loads(result.stdout)["findings"]
    about = [f for f in findings if "before intervals had ended" in f["found"]]
    return (result.exit_code, *((about[0]["found"], about[0]["do"]) if about else ("", "")))


def restate(
    shop: Warehouse, instance: dg.DagsterInstance, config: dict[str, Any]
) -> tuple[bool, str]:
    """Whether the job succeeds, and its report."""
    job = Automation.of(shop.project, instance).location.definitions.resolve_job_def(RESTATE)
    result = job.execute_in_process(
        instance=instance,
        raise_on_error=False,
        run_config={"ops": {f"{RESTATE}_models": {"config": config}}},
    )
    (output,) = (event for event in result.all_events if event.is_successful_output)
    return result.success, str(output.step_output_data.metadata["report"].value)


def cure_in(text: str) -> dict[str, Any]:
    """The job's configuration, as a person would copy it from the doctor."""
    match = re.search(rf"Launch the job {RESTATE} with (\{{.*\}})\.", text)
    assert match is not None, text
    return dict(json.loads(match[1]))


def test_a_record_of_ended_intervals_is_fine(looked_at: Warehouse) -> None:
    assert doctor(looked_at) == (0, "", "")


def test_the_restatement_that_doctor_names_takes_back_what_was_recorded_ahead(
    shop: Warehouse, instance: dg.DagsterInstance
) -> None:
    ahead = in_days(20)
    projects.sqlmesh_run(shop.project, ahead)
    code, text, cure = doctor(shop)
    assert code == 2
    assert f"to {ahead:%Y-%m-%d} 00:00 UTC" in text
    assert all(name in text for name in EVALUATED_AHEAD)
    config = cure_in(cure)
    assert set(config["models"]) == EVALUATED_AHEAD

    before = shop.intervals()
    succeeded, report = restate(shop, instance, {**config, "dry_run": True})
    assert succeeded
    taken = f"{in_days(0):%Y-%m-%d} 00:00 to {ahead:%Y-%m-%d} 00:00 UTC"
    assert f"| shop.events | recorded before it ended, and taken off the record | {taken} |" in (
        report
    )
    assert shop.intervals() == before

    assert restate(shop, instance, config)[0]
    today = f"{in_days(0):%Y-%m-%d}T00:00:00+00:00"
    assert {name: ranges[-1][1] for name, ranges in shop.intervals().items()} == dict.fromkeys(
        EVALUATED_AHEAD, today
    )
    assert doctor(shop) == (0, "", "")
    # What arrives is evaluated when its time has come.
    due = Automation.of(shop.project, instance).tick(in_days(2)).requested
    assert due == {name.replace(".", "/") for name in EVALUATED_AHEAD}


def test_what_was_recorded_ahead_and_has_ended_since_is_evaluated_again(
    shop: Warehouse, instance: dg.DagsterInstance
) -> None:
    # As if the plan had been applied two days before the moment that it was for.
    with duckdb.connect(str(shop.project / "warehouse.duckdb")) as connection:
        written = "(SELECT MAX(end_ts) FROM sqlmesh._intervals) - 2 * 86400000"
        connection.execute(f"UPDATE sqlmesh._intervals SET created_ts = {written}")
    shop.query("UPDATE raw.events SET amount = amount + 1000")
    code, text, cure = doctor(shop)
    assert code == 2
    assert "2026-10-06 00:00 to 2026-10-08 00:00 UTC" in text

    assert restate(shop, instance, cure_in(cure))[0]
    late = "SELECT COUNT(DISTINCT day) FROM shop.events WHERE amount >= 1000 AND day < '2026-10-08'"
    assert shop.query(late) == [(2,)]
    assert doctor(shop) == (0, "", "")
