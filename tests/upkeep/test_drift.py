"""Drift is in the tick's log and in asset checks, once, and is taken back once it is over."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest
from support import projects
from support.ticks import Automation, Run
from support.warehouse import NEXT_DAY, PLANNED_AT, Warehouse, warehouse

from dagster_sqlmesh_automation.automation.facts.facts import Hashes
from dagster_sqlmesh_automation.automation.upkeep.drift import CHECK, DriftReport, drift

BRING = "bring those here, prepare and reload the code location"
TAKEN_OUT = f"plan it (sqlmesh plan prod), or, if a plan of newer files took it out, {BRING}"
NEWER = f"plan it (sqlmesh plan prod), or, if it was planned from newer files, {BRING}"
ADDED = (
    f"take it out by a plan (sqlmesh plan prod), or, if a plan of newer files added it, {BRING}; "
    "if it is another project's, add that to SQLMESH_AUTOMATION_PROJECT or set "
    "SQLMESH_AUTOMATION_SOURCE=environment"
)
FILES_CHANGED = "reload the code location, as the project's files have changed since it was loaded"
NEW = "MODEL (name shop.new, kind VIEW); SELECT 1 AS x"
HOLDS = "differs from what the SQLMesh environment holds in"
LOGIC = f"shop.totals {HOLDS} its logic: {NEWER}"


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    return warehouse(tmp_path_factory.mktemp("drift") / "shop")


@pytest.fixture
def shop(tmp_path: Path) -> Warehouse:
    return warehouse(tmp_path / "shop")


def change(shop: Warehouse, model: str, old: str, new: str) -> None:
    file = shop.project / "models" / f"{model}.sql"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def change_logic(shop: Warehouse) -> None:
    change(shop, "totals", "GROUP BY", "WHERE amount > -1 GROUP BY")


def lines(automation: Automation) -> list[str]:
    """What the next tick warns of."""
    plan = automation.location.planner.plan(automation.instance, PLANNED_AT)
    return list(automation.location.planner.report_drift(automation.instance, plan))


def evaluations(instance: dg.DagsterInstance, model: str) -> list[dg.AssetCheckEvaluation]:
    """Every evaluation of a model's check, oldest first."""
    key = dg.AssetCheckKey(dg.AssetKey(["shop", model]), CHECK)
    history = instance.event_log_storage.get_asset_check_execution_history(key, limit=100)
    evaluations = (record.evaluation for record in reversed(history))
    return [e for e in evaluations if isinstance(e, dg.AssetCheckEvaluation)]


def test_what_is_planned_is_not_drift(planned: Warehouse, instance: dg.DagsterInstance) -> None:
    assert lines(Automation.of(planned.project, instance)) == []
    assert evaluations(instance, "totals") == []


def test_every_kind_of_drift_is_a_sentence(shop: Warehouse, instance: dg.DagsterInstance) -> None:
    change_logic(shop)
    change(shop, "customers", "cron '@daily'", "cron '@daily', owner anna")
    (shop.project / "models" / "new.sql").write_text(
        "MODEL (name shop.new, kind VIEW); SELECT 1 AS x"
    )
    (shop.project / "audits" / "alone.sql").write_text(
        "AUDIT (name alone, standalone true); SELECT country_id FROM shop.totals WHERE amount < 0"
    )
    automation = Automation.of(shop.project, instance)
    assert set(lines(automation)) == {
        LOGIC,
        f"shop.customers {HOLDS} its metadata: {NEWER}",
        f"shop.new is not in the SQLMesh environment: {TAKEN_OUT}",
        f"alone is not in the SQLMesh environment: {TAKEN_OUT}",
    }
    (shown,) = evaluations(instance, "totals")
    assert (shown.passed, shown.severity, shown.description) == (
        False,
        dg.AssetCheckSeverity.WARN,
        LOGIC,
    )
    assert not shown.blocking
    assert evaluations(instance, "events") == []


def test_a_removed_model_is_drift_also_where_another_one_still_reads_it(
    shop: Warehouse, instance: dg.DagsterInstance
) -> None:
    (shop.project / "models" / "events.sql").unlink()  # and so is like an external table
    (shop.project / "models" / "best.sql").unlink()
    sentences = lines(Automation.of(shop.project, instance))
    for name in ("warehouse.shop.events", "warehouse.shop.best"):
        assert f"{name} is in the SQLMesh environment and has no asset: {ADDED}" in sentences


def test_it_is_said_once_also_after_a_restart_and_taken_back(
    shop: Warehouse, instance: dg.DagsterInstance
) -> None:
    change_logic(shop)
    automation = Automation.of(shop.project, instance)
    assert lines(automation) == [LOGIC]
    assert lines(automation) == []
    # Another process says it again in its log, and shows it no second time.
    assert lines(Automation.of(shop.project, instance)) == [LOGIC]
    assert len(evaluations(instance, "totals")) == 1

    projects.plan(shop.project, PLANNED_AT)
    assert lines(automation) == []
    assert lines(Automation.of(shop.project, instance)) == []
    shown = evaluations(instance, "totals")
    assert [(each.passed, each.description) for each in shown] == [(False, LOGIC), (True, None)]
    assert evaluations(instance, "best") == []


def test_a_new_plan_is_noticed_while_the_process_lives(
    shop: Warehouse, instance: dg.DagsterInstance
) -> None:
    automation = Automation.of(shop.project, instance)
    assert lines(automation) == []
    change_logic(shop)
    projects.plan(shop.project, PLANNED_AT)
    assert lines(automation) == [f"shop.totals {HOLDS} its logic: {FILES_CHANGED}"]
    assert [each.passed for each in evaluations(instance, "totals")] == [False]


def test_nothing_is_said_while_a_plan_is_being_applied(
    planned: Warehouse, instance: dg.DagsterInstance
) -> None:
    location = Automation.of(planned.project, instance).location
    state = location.planner.plan(instance, PLANNED_AT).state
    report = DriftReport(location.manifest, location.index, location.settings)
    assert not list(report.report(instance, replace(state, hashes={}, planned_at=None)))
    assert len(list(report.report(instance, replace(state, hashes={})))) == 4


def test_many_are_counted(planned: Warehouse, instance: dg.DagsterInstance) -> None:
    location = Automation.of(planned.project, instance).location
    state = location.planner.plan(instance, PLANNED_AT).state
    more = {f'"w"."s"."m{n}"': Hashes("1", "2") for n in range(30)}
    state = replace(state, hashes={**state.hashes, **more})
    sentences = list(
        DriftReport(location.manifest, location.index, location.settings).report(instance, state)
    )
    assert len(sentences) == 21
    assert sentences[-1] == "10 more differ from the SQLMesh environment"


def test_definitions_from_the_environment_are_cured_by_a_reload(
    planned: Warehouse, instance: dg.DagsterInstance
) -> None:
    location = Automation.of(planned.project, instance).location
    state = location.planner.plan(instance, PLANNED_AT).state
    manifest = replace(location.manifest, plan_id="an earlier one")
    sentences = drift(manifest, replace(state, hashes={}), location.settings).values()
    assert "shop.best is not in the SQLMesh environment: reload the code location" in sentences


# Each cure, taken


def test_a_reload_cures_files_that_have_changed_and_were_planned(
    shop: Warehouse, instance: dg.DagsterInstance
) -> None:
    automation = Automation.of(shop.project, instance)
    (shop.project / "models" / "new.sql").write_text(NEW)
    projects.plan(shop.project, PLANNED_AT)
    assert lines(automation) == [
        f"warehouse.shop.new is in the SQLMesh environment and has no asset: {FILES_CHANGED}"
    ]
    assert lines(Automation.of(shop.project, instance)) == []


def test_a_plan_cures_files_that_were_not_planned_without_a_reload(
    shop: Warehouse, instance: dg.DagsterInstance
) -> None:
    (shop.project / "models" / "new.sql").write_text(NEW)
    (shop.project / "models" / "best.sql").unlink()
    automation = Automation.of(shop.project, instance)
    assert lines(automation) == [
        f"shop.new is not in the SQLMesh environment: {TAKEN_OUT}",
        f"warehouse.shop.best is in the SQLMesh environment and has no asset: {ADDED}",
    ]
    projects.plan(shop.project, PLANNED_AT)
    assert lines(automation) == []


def test_the_files_that_were_planned_or_source_cure_a_plan_of_newer_ones(
    shop: Warehouse, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    newer = Path(shutil.copytree(shop.project, tmp_path / "newer"))
    (newer / "models" / "new.sql").write_text(NEW)
    projects.plan(newer, PLANNED_AT)
    # A reload alone changes nothing.
    for _ in range(2):
        assert lines(Automation.of(shop.project, instance)) == [
            f"warehouse.shop.new is in the SQLMesh environment and has no asset: {ADDED}"
        ]
    assert lines(Automation.of(shop.project, instance, source="environment")) == []
    assert lines(Automation.of(newer, instance)) == []


def test_files_that_do_not_load_are_to_be_mended(
    shop: Warehouse, instance: dg.DagsterInstance
) -> None:
    location = Automation.of(shop.project, instance).location
    state = location.planner.plan(instance, PLANNED_AT).state
    manifest = replace(location.manifest, outdated="a.sql does not load")
    sentences = drift(manifest, replace(state, hashes={}), location.settings).values()
    assert all("mend the project's files, which do not load, and reload" in s for s in sentences)


def test_a_persons_check_tells_what_a_tick_would(
    shop: Warehouse, instance: dg.DagsterInstance
) -> None:
    change_logic(shop)
    automation = Automation.of(shop.project, instance)
    run = run_checks(automation, "totals", "best")
    assert run.success
    results = {key: (check.passed, check.description) for key, check in run.checks().items()}
    assert results == {
        ("shop/totals", CHECK): (False, LOGIC),
        ("shop/best", CHECK): (True, None),
    }
    assert len(run.steps(dg.DagsterEventType.STEP_START)) == 1
    # The tick has nothing to add to it.
    lines(automation)
    assert len(evaluations(instance, "totals")) == 1


def test_a_check_that_came_to_nothing_hides_no_earlier_one(
    shop: Warehouse, instance: dg.DagsterInstance
) -> None:
    change_logic(shop)
    lines(Automation.of(shop.project, instance))
    projects.plan(shop.project, PLANNED_AT)
    (shop.project / "warehouse.duckdb").rename(shop.project / "away.duckdb")
    automation = Automation.of(shop.project, instance)
    assert not run_checks(automation, "totals").success
    (shop.project / "away.duckdb").rename(shop.project / "warehouse.duckdb")
    lines(automation)
    assert [each.passed for each in evaluations(instance, "totals")] == [False, True]


def test_a_person_may_run_models_and_the_check_together(
    shop: Warehouse, instance: dg.DagsterInstance
) -> None:
    automation = Automation.of(shop.project, instance)
    keys = {dg.AssetKey(["shop", name]) for name in ("events", "totals")}
    checks = list(automation.repository.asset_graph.get_check_keys_for_assets(keys))
    run = automation.execute(keys, {"sqlmesh/execution_time": NEXT_DAY.isoformat()}, checks)
    assert run.success
    assert run.materialized().keys() == {"shop/events", "shop/totals"}
    assert {key for key, name in run.checks() if name == CHECK} == {"shop/events", "shop/totals"}


def test_an_automated_run_has_no_part_in_it(shop: Warehouse, instance: dg.DagsterInstance) -> None:
    # One model without any audit: its request names no check at all.
    change(shop, "best", ", audits (stays_true(model := 'shop.best'))", "")
    projects.plan(shop.project, PLANNED_AT)
    automation = Automation.of(shop.project, instance)
    tick, run = automation.tick_and_run(NEXT_DAY)
    (request,) = tick.run_requests
    assert request.asset_check_keys
    assert CHECK not in {key.name for key in request.asset_check_keys}
    assert run is not None
    assert run.success
    assert run.steps(dg.DagsterEventType.STEP_START) == {
        "shop__best",
        "shop__customers",
        "shop__events",
        "shop__totals",
    }
    planned = run.events(dg.DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED)
    assert planned
    assert CHECK not in {event.event_specific_data.asset_check_key.name for event in planned}
    assert CHECK not in {name for _, name in run.checks()}


def run_checks(automation: Automation, *models: str) -> Run:
    keys = {dg.AssetCheckKey(dg.AssetKey(["shop", model]), CHECK) for model in models}
    return automation.execute(set(), {}, list(keys))
