"""An execution that fails after its last model: what ticks and the doctor say until it is
mended."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from click.testing import Result
from support.executors import Launch, dagster_home
from support.schema import invoke, problems
from support.statements import RAW, add_statements, executed, linger
from support.ticks import Automation
from support.warehouse import NEXT_DAY, Warehouse, warehouse

DAY_AFTER = NEXT_DAY.replace(day=10)


@pytest.fixture
def shop(tmp_path: Path) -> Warehouse:
    shop = warehouse(tmp_path / "project", raw=RAW)
    add_statements(shop, "after_all")
    return shop


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return dagster_home(tmp_path / "home")


def tick(shop: Warehouse, home: Path, at: Any) -> Result:
    arguments = ("tick", "--json", "--project", shop.project, "--at", at.isoformat())
    return invoke(*arguments, DAGSTER_HOME=home)


def finding(shop: Warehouse, home: Path) -> dict[str, str] | None:
    """What the doctor finds of a failed end."""
    result = invoke("doctor", "--json", "--project", shop.project, DAGSTER_HOME=home)
    found = json.loads(result.stdout)["findings"]
    return next((each for each in found if each["found"].startswith("the end of run")), None)


def test_ticks_and_the_doctor_tell_until_a_later_execution_comes_to_its_end(
    shop: Warehouse, home: Path
) -> None:
    shop.fail("after_all")
    first = tick(shop, home, NEXT_DAY)

    assert first.exit_code == 1, first.output
    assert "'after_all' statement" in first.stderr
    document = json.loads(first.stdout)
    assert problems(document) == []
    assert {model["outcome"] for model in document["models"]} == {"executed"}
    assert {model["error"] for model in document["models"]} == {None}

    second = tick(shop, home, NEXT_DAY)
    assert second.exit_code == 0, second.output
    assert json.loads(second.stdout)["run_id"] is None
    assert f"the end of run {document['run_id']} failed: SQLMesh failed after" in second.stderr
    assert "'after_all' statement" in second.stderr
    found = finding(shop, home)
    assert found is not None
    assert found["level"] == "problem"
    assert "'after_all' statement" in found["found"]

    shop.fail()
    assert tick(shop, home, DAY_AFTER).exit_code == 0
    assert executed(shop, "after_all") == 1
    assert "the end of run" not in tick(shop, home, DAY_AFTER).stderr
    assert finding(shop, home) is None


def test_a_tick_of_the_daemon_tells_once(shop: Warehouse, instance: dg.DagsterInstance) -> None:
    automation = Automation.of(shop.project, instance)
    automation.tick(NEXT_DAY)
    shop.fail("after_all")
    _, run = automation.tick_and_run(NEXT_DAY)
    assert run is not None
    assert not run.success

    automation.tick(NEXT_DAY)
    (line,) = automation.location.planner.recover(instance)
    assert line.startswith(f"the end of run {run.run_id} failed")
    assert list(automation.location.planner.recover(instance)) == []


def test_a_run_that_was_killed_in_after_all_is_named(tmp_path: Path, home: Path) -> None:
    shop = warehouse(tmp_path / "project")
    gate = linger(shop, "after_all")
    with Launch(shop.project, home, "in_process", at=NEXT_DAY) as launch:
        launch.wait_for((gate / "reached").exists)
        launch.kill_all()
        (gate / "open").touch()
        run = launch.instance.get_run_by_id(launch.run_id)
        assert run is not None
        launch.instance.report_run_failed(run, "Run monitoring found its process gone")

        found = finding(shop, home)
        assert found is not None
        assert found["level"] == "advice"
        assert "may not have been executed" in found["found"]
