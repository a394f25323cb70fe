"""What Dagster has stored is not believed: one odd tag, event or answer leaves all else decided."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from click.testing import CliRunner
from support import projects
from support.ticks import Automation
from support.warehouse import NEXT_DAY, Warehouse, warehouse

from dagster_sqlmesh_automation.assets.dagster_internals import (
    FINISHED_STATUSES,
    EngineEventData,
)
from dagster_sqlmesh_automation.assets.ledger.ledger import Ledger, read_history
from dagster_sqlmesh_automation.assets.ledger.outcome import Outcome, OutcomeStatus
from dagster_sqlmesh_automation.assets.ledger.run_tags import EXECUTION_TIME_TAG, PROCESS_TAG
from dagster_sqlmesh_automation.automation.cli.main import main
from dagster_sqlmesh_automation.automation.facts.runs import IN_PROGRESS
from dagster_sqlmesh_automation.automation.upkeep.recovery import end_dead_runs
from dagster_sqlmesh_automation.config.errors import RunTagInvalid

DAY = timedelta(days=1)
OVERLAPPING = {
    **{
        f"models/{name}.sql": (
            f"MODEL (name shop.{name}, kind FULL, cron '@daily'); SELECT 1 AS {name}"
        )
        for name in ("a", "b", "c")
    },
    "audits/x.sql": (
        "AUDIT (name x, standalone true, cron '@daily'); "
        "SELECT a.a FROM shop.a AS a, shop.b AS b WHERE a.a <> b.b"
    ),
    "audits/y.sql": (
        "AUDIT (name y, standalone true, cron '@daily'); "
        "SELECT b.b FROM shop.b AS b, shop.c AS c WHERE b.b <> c.c"
    ),
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    monkeypatch.setenv("DAGSTER_HOME", str(folder))
    with dg.DagsterInstance.from_config(str(folder)) as instance:
        yield instance


@pytest.fixture
def shop(tmp_path: Path) -> Warehouse:
    return warehouse(tmp_path / "shop")


def called(shop: Warehouse, *arguments: str, exit_code: int = 0) -> str:
    result = CliRunner().invoke(main, [*arguments, "--project", str(shop.project)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    assert result.exit_code == exit_code, result.output
    return result.output


def test_standalone_audits_that_share_a_model_are_decided_day_after_day(
    tmp_path: Path, home: dg.DagsterInstance
) -> None:
    shop = warehouse(tmp_path / "audited", models=OVERLAPPING)
    automation = Automation.of(shop.project, home)
    for day in range(3):
        tick, run = automation.tick_and_run(NEXT_DAY + day * DAY)
        assert tick.requested == {"shop/a", "shop/b", "shop/c"}
        assert run is not None
        assert run.success
        assert {check for _, check in run.checks()} >= {"x", "y"}
        idle, again = automation.tick_and_run(NEXT_DAY + day * DAY + timedelta(minutes=5))
        assert again is None
        assert not idle.plan.warnings
    called(shop, "status")


@pytest.mark.parametrize("status", dg.DagsterRunStatus)
def test_a_run_is_in_progress_in_every_status_but_the_finished(
    status: dg.DagsterRunStatus,
) -> None:
    assert (status in IN_PROGRESS) == (status not in FINISHED_STATUSES)


@pytest.mark.parametrize("value", ["yesterday", "", "2026-10-15", "2026-10-15T00:05", "9" * 400])
def test_a_run_with_an_odd_execution_time_fails_and_stops_nothing(
    value: str, shop: Warehouse, home: dg.DagsterInstance
) -> None:
    automation = Automation.of(shop.project, home)
    run = automation.execute({dg.AssetKey(["shop", "totals"])}, {EXECUTION_TIME_TAG: value})
    assert not run.success
    assert f"{EXECUTION_TIME_TAG}=" in run.failure("shop__totals").error.cause.message
    tick = automation.tick(datetime.now(UTC))
    assert len(tick.plan.decisions) == len(automation.location.manifest.decided)
    (warning,) = tick.plan.warnings
    assert run.run_id in warning
    assert EXECUTION_TIME_TAG in warning
    if value != "yesterday":
        return
    assert run.run_id in called(shop, "status")
    called(shop, "explain", "shop.totals")
    assert json.loads(called(shop, "status", "--json").splitlines()[-1])["warnings"]


@pytest.mark.parametrize("value", ["x", "a:b:c", "host:0:00000000", ":::", "h:-1:00000000"])
def test_a_run_in_progress_with_an_odd_process_is_named_and_left(
    value: str, shop: Warehouse, home: dg.DagsterInstance
) -> None:
    automation = Automation.of(shop.project, home)
    key = dg.AssetKey(["shop", "totals"])
    job = automation.location.definitions.resolve_implicit_global_asset_job_def()
    run = home.create_run_for_job(job, asset_selection={key}, tags={PROCESS_TAG: value})
    home.report_run_canceling(run)
    (line,) = end_dead_runs(home)
    assert run.run_id in line
    assert PROCESS_TAG in line
    stored = home.get_run_by_id(run.run_id)
    assert stored is not None
    assert stored.status is dg.DagsterRunStatus.CANCELING
    tick = automation.tick(NEXT_DAY)
    (held,) = (each for each in tick.plan.decisions.values() if each.name == "shop.totals")
    assert run.run_id in str(held.in_progress)
    if value == "x":
        called(shop, "tick", "--dry-run")


def outcome(**changed: Any) -> dict[str, Any]:
    return {**Outcome("m", "shop.m", OutcomeStatus.EXECUTED).to_json(), **changed}


ODD: dict[str, dict[str, Any]] = {
    "a round that is a text": {"sqlmesh/round": "first", "sqlmesh/outcome_record": outcome()},
    "a round below the first": {"sqlmesh/round": 0, "sqlmesh/outcome_record": outcome()},
    "a round beyond all": {"sqlmesh/round": 10**12, "sqlmesh/outcome_record": outcome()},
    "no process": {"sqlmesh/process": None, "sqlmesh/outcome_record": outcome()},
    "an outcome that is a list": {"sqlmesh/outcome_record": ["m"]},
    "an outcome without a model": {"sqlmesh/outcome_record": {"status": "executed"}},
    "an unknown status": {"sqlmesh/outcome_record": outcome(status="evaporated")},
    "an interval without a zone": {
        "sqlmesh/outcome_record": outcome(
            intervals=[["2026-10-01T00:00:00", "2026-10-02T00:00:00"]]
        )
    },
    "half an interval": {"sqlmesh/outcome_record": outcome(intervals=[["2026-10-01T00:00:00Z"]])},
    "a plan of texts": {"sqlmesh/execution_plan": {"m": "everything"}},
    "a plan that is a list": {"sqlmesh/execution_plan": [1, 2]},
    "left out that are numbers": {
        "sqlmesh/execution_started": "a process",
        "sqlmesh/execution_left_out": {"a": 1},
    },
    "an end without its error": {"sqlmesh/execution_ended": {"reason": "over"}},
    "an end that is a list": {"sqlmesh/execution_ended": []},
}


@pytest.mark.parametrize("metadata", ODD.values(), ids=ODD)
def test_an_odd_event_of_a_ledger_is_left_out_and_named(
    metadata: dict[str, Any], instance: dg.DagsterInstance
) -> None:
    run = instance.create_run_for_job(dg.GraphDefinition(name="empty").to_job())
    ledger = Ledger(instance, run, "here")
    good = Outcome("n", "shop.n", OutcomeStatus.EXECUTED)
    ledger.record(1, good, None)
    values = {"sqlmesh/scope": "here", "sqlmesh/process": "p", "sqlmesh/round": 1, **metadata}
    event = {
        name: dg.MetadataValue.json(value)
        if isinstance(value, dict | list)
        else dg.MetadataValue.int(value)
        if isinstance(value, int)
        else dg.MetadataValue.text(value)
        for name, value in values.items()
        if value is not None
    }
    instance.report_engine_event("odd", run, EngineEventData(metadata=event))
    history = read_history(instance, run.run_id, "here")
    assert history.outcomes == {"n": good}
    assert not any(round_.ended or round_.planned for round_ in history.rounds)
    assert len(history.rounds) == 1
    assert len(history.unusable) == 1
    ledger.refresh()
    assert ledger.outcomes() == {"n": good}
    assert ledger.failed_round("n", "step") == 0


def test_an_odd_event_of_a_failed_run_is_a_warning_of_one_tick(
    shop: Warehouse, home: dg.DagsterInstance
) -> None:
    automation = Automation.of(shop.project, home)
    run = automation.execute({dg.AssetKey(["shop", "totals"])}, {EXECUTION_TIME_TAG: "never"})
    stored = home.get_run_by_id(run.run_id)
    assert stored is not None
    scope = automation.location.index.scope
    metadata = {
        "sqlmesh/scope": dg.MetadataValue.text(scope),
        "sqlmesh/process": dg.MetadataValue.text("p"),
        "sqlmesh/round": dg.MetadataValue.int(1),
        "sqlmesh/outcome_record": dg.MetadataValue.json({"status": "unheard of"}),
    }
    home.report_engine_event("odd", stored, EngineEventData(metadata=metadata))
    first = automation.tick(datetime.now(UTC)).plan
    assert any("of its ledger" in line and run.run_id in line for line in first.warnings)
    assert len(first.decisions) == len(automation.location.manifest.decided)
    second = automation.tick(datetime.now(UTC)).plan
    assert not any("of its ledger" in line for line in second.warnings)


@pytest.mark.parametrize(
    "metadata",
    [
        {"sqlmesh/evaluated_at": "noon"},
        {"sqlmesh/evaluated_at": dg.MetadataValue.json({"at": [1]})},
        {"sqlmesh/evaluated_at": dg.MetadataValue.timestamp(4_000_000_000.0)},
        {"sqlmesh/outcome": 7, "sqlmesh/snapshot": None},
        {"sqlmesh/outcome": dg.MetadataValue.json([])},
    ],
    ids=str,
)
def test_a_materialization_with_odd_metadata_hides_no_evaluation_outside(
    metadata: dict[str, Any], shop: Warehouse, home: dg.DagsterInstance
) -> None:
    automation = Automation.of(shop.project, home)
    key = dg.AssetKey(["shop", "totals"])
    home.report_runless_asset_event(dg.AssetMaterialization(key, metadata=metadata))
    before = home.get_latest_materialization_event(key)
    projects.sqlmesh_run(shop.project, NEXT_DAY)
    plan = automation.location.planner.plan(home, NEXT_DAY)
    lines = list(automation.location.planner.report_outside(home, plan))
    assert "shop.totals was evaluated outside Dagster" in lines
    after = home.get_latest_materialization_event(key)
    assert before is not None
    assert after is not None
    assert after.timestamp > before.timestamp
    assert len(plan.decisions) == len(automation.location.manifest.decided)


def test_names_of_runs_and_tags_are_in_the_error() -> None:
    error = RunTagInvalid(EXECUTION_TIME_TAG, "x" * 500, "7fa49399", "a moment")
    assert "7fa49399" in str(error)
    assert len(str(error)) < 300
