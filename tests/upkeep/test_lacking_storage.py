"""A Dagster storage that lacks a method: what needs it is switched off and named, ticks go on."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest
import yaml
from click.testing import CliRunner
from support.projects import ROOT
from support.ticks import Automation
from support.warehouse import Warehouse, warehouse

from dagster_sqlmesh_automation.assets.dagster_internals import SensorExecutionData
from dagster_sqlmesh_automation.automation.cli.main import main
from dagster_sqlmesh_automation.automation.definitions import Location
from dagster_sqlmesh_automation.config.errors import StorageLacking
from dagster_sqlmesh_automation.config.settings import AutomationSettings

AUDITED = {
    "models/a.sql": "MODEL (name shop.a, kind FULL, cron '@daily'); SELECT 1 AS a",
    "audits/x.sql": (
        "AUDIT (name x, standalone true, cron '@daily'); SELECT a FROM shop.a WHERE a <> 1"
    ),
}
DAGSTER_PLUS = "purge_asset_evaluations,get_asset_check_execution_history"
DEGRADED = {
    "purge_asset_evaluations": "purging old evaluations",
    "get_asset_check_execution_history": "",
    "get_latest_asset_check_execution_by_key": "",
    "fetch_planned_materializations": "",
    "fetch_materializations": "",
    "all_instigator_state": "",
    "get_daemon_heartbeats": "",
    DAGSTER_PLUS: "purging old evaluations",
}
NEEDED = ("get_runs", "get_run_records", "get_asset_records")


@pytest.fixture
def shop(tmp_path: Path) -> Warehouse:
    """A project of which everything is due by now."""
    return warehouse(tmp_path / "shop", models=AUDITED)


@pytest.fixture
def lacking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dg.DagsterInstance]:
    def make(methods: str) -> dg.DagsterInstance:
        config = {"base_dir": str(tmp_path), "lacks": methods}
        storage = {"module": "support.lacking", "class": "LackingStorage", "config": config}
        text = {"telemetry": {"enabled": False}, "storage": {"custom": storage}}
        (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(text))
        monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
        return dg.DagsterInstance.from_config(str(tmp_path))

    return make


@contextmanager
def ticked(
    location: Location, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[SensorExecutionData, list[str]]]:
    """One tick of the sensor, as the daemon does it, and the warnings of its log."""
    repository = location.definitions.get_repository_def()
    lines: list[str] = []
    with dg.build_sensor_context(instance=instance, repository_def=repository) as context:
        monkeypatch.setattr(context.log, "warning", lines.append)
        yield location.sensor.evaluate_tick(context), lines


@pytest.mark.parametrize(("methods", "part"), DEGRADED.items(), ids=[*DEGRADED])
def test_what_a_storage_lacks_is_switched_off_by_name_and_ticks_go_on(
    methods: str,
    part: str,
    shop: Warehouse,
    lacking: Callable[[str], dg.DagsterInstance],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with lacking(methods) as instance:
        location = Location(AutomationSettings(project=shop.project))
        with ticked(location, instance, monkeypatch) as (result, lines):
            (request,) = result.run_requests or ()
            assert {key.to_user_string() for key in request.asset_selection or ()} == {"shop/a"}
        switched_off = [line for line in lines if "is switched off" in line]
        assert not part or any(line.startswith(part) for line in switched_off)
        with ticked(location, instance, monkeypatch) as (result, lines):
            assert result.run_requests
        assert not any("is switched off" in line for line in lines)
        automation = Automation(shop.project, instance, location)
        run = automation.execute({dg.AssetKey(["shop", "a"])}, {})
        assert run.success
        for command in (["status"], ["explain", "shop.a"], ["explain", "x"], ["doctor"]):
            result = CliRunner().invoke(main, [*command, "--project", str(shop.project)])
            assert isinstance(result.exception, SystemExit | None), result.exception
            assert "Traceback" not in result.output


@pytest.mark.parametrize("method", NEEDED)
def test_what_nothing_can_be_decided_without_is_one_clear_error(
    method: str, shop: Warehouse, lacking: Callable[[str], dg.DagsterInstance]
) -> None:
    with lacking(method) as instance:
        location = Location(AutomationSettings(project=shop.project))
        job = location.definitions.resolve_implicit_global_asset_job_def()
        # One that has to be asked for: with no run at all nothing is to be read of runs.
        instance.create_run_for_job(job, status=dg.DagsterRunStatus.FAILURE)
        with pytest.raises(StorageLacking, match=method):
            location.planner.plan(instance, datetime.now(UTC))
    result = CliRunner().invoke(main, ["status", "--project", str(shop.project)])
    assert result.exit_code == 2
    assert method in result.output


def test_every_method_of_a_storage_that_is_called_is_listed_here() -> None:
    """Grows with the code: a new call has to say what becomes of it on a storage without."""
    called: set[str] = set()
    for folder in ("assets", "automation"):
        for path in (ROOT / folder).rglob("*.py"):
            if path.parent.name != "storage":
                text = path.read_text()
                called |= {*re.findall(r"\bstorage\.([a-z_]+)\(", text)}
                called |= {*re.findall(r"\b_?instance\.(?:\w+_storage\.)?([a-z_]+)\(", text)}
    events_of_runs = {"get_records_for_run", "report_engine_event", "get_run_by_id", "get_run_ids"}
    reports = {"report_runless_asset_event", "report_run_failed", "store_asset_event"}
    through = {
        "get_daemon_statuses": "get_daemon_heartbeats",
        "get_latest_materialization_event": "fetch_materializations",
    }
    settings = {"get_concurrency_config", "get_ticks"}
    listed = {name for names in DEGRADED for name in names.split(",")} | {*NEEDED}
    assert called - events_of_runs - reports - settings <= listed | {*through}
    assert json.dumps(sorted(through.values()))
