"""Drift is in every tick's log and in asset checks, as long as it lasts."""

from __future__ import annotations

import asyncio
import shutil
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.loader import LoadingContextForTest
from support import projects
from support.ticks import Automation, Run
from support.warehouse import NEXT_DAY, PLANNED_AT, Warehouse, warehouse

from dagster_sqlmesh_automation.assets.naming import ENVIRONMENT_CHECK as CHECK
from dagster_sqlmesh_automation.automation.facts.facts import Hashes
from dagster_sqlmesh_automation.automation.upkeep.drift import DriftReport, drift

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
FROM = "drift from SQLMesh environment 'prod':"
DIFFERS = f"{FROM} in another version: shop.totals: {NEWER}"


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


def sentences(automation: Automation) -> list[str]:
    """What there is to say of each model."""
    location = automation.location
    state = location.planner.plan(automation.instance, PLANNED_AT).state
    return [each.text for each in drift(location.manifest, state, location.settings).values()]


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
    assert lines(automation) == [
        f"{FROM} not in it: shop.new, alone: {TAKEN_OUT}",
        f"{FROM} in another version: shop.customers, shop.totals: {NEWER}",
    ]
    assert set(sentences(automation)) == {
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
    automation = Automation.of(shop.project, instance)
    assert lines(automation)[-1] == (
        f"{FROM} there without an asset: warehouse.shop.best, warehouse.shop.events: {ADDED}"
    )
    for name in ("warehouse.shop.events", "warehouse.shop.best"):
        assert f"{name} is in the SQLMesh environment and has no asset: {ADDED}" in sentences(
            automation
        )


def test_it_is_said_at_every_tick_shown_once_and_taken_back(
    shop: Warehouse, instance: dg.DagsterInstance
) -> None:
    change_logic(shop)
    automation = Automation.of(shop.project, instance)
    assert lines(automation) == [DIFFERS]
    assert lines(automation) == [DIFFERS]
    # Another process says it, too, and shows it no second time.
    assert lines(Automation.of(shop.project, instance)) == [DIFFERS]
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
    assert lines(automation) == [f"{FROM} in another version: shop.totals: {FILES_CHANGED}"]
    assert [each.passed for each in evaluations(instance, "totals")] == [False]


def test_nothing_is_said_while_a_plan_is_being_applied(
    planned: Warehouse, instance: dg.DagsterInstance
) -> None:
    location = Automation.of(planned.project, instance).location
    state = location.planner.plan(instance, PLANNED_AT).state
    report = DriftReport(location.manifest, location.index, location.settings)
    assert not list(report.report(instance, replace(state, hashes={}, planned_at=None)))
    assert len(list(report.report(instance, replace(state, hashes={})))) == 1


def test_many_are_counted(planned: Warehouse, instance: dg.DagsterInstance) -> None:
    location = Automation.of(planned.project, instance).location
    state = location.planner.plan(instance, PLANNED_AT).state
    more = {f'"w"."s"."m{n}"': Hashes("1", "2") for n in range(30)}
    state = replace(state, hashes={**state.hashes, **more})
    report = DriftReport(location.manifest, location.index, location.settings)
    (line,) = report.report(instance, state)
    assert line == f"{FROM} there without an asset: w.s.m0, w.s.m1, w.s.m10 and 27 more: {ADDED}"


def test_definitions_from_the_environment_are_cured_by_a_reload(
    planned: Warehouse, instance: dg.DagsterInstance
) -> None:
    location = Automation.of(planned.project, instance).location
    state = location.planner.plan(instance, PLANNED_AT).state
    manifest = replace(location.manifest, plan_id="an earlier one")
    differences = drift(manifest, replace(state, hashes={}), location.settings)
    assert "shop.best is not in the SQLMesh environment: reload the code location" in {
        each.text for each in differences.values()
    }


# Each cure, taken


def test_a_reload_cures_files_that_have_changed_and_were_planned(
    shop: Warehouse, instance: dg.DagsterInstance
) -> None:
    automation = Automation.of(shop.project, instance)
    (shop.project / "models" / "new.sql").write_text(NEW)
    projects.plan(shop.project, PLANNED_AT)
    assert lines(automation) == [
        f"{FROM} there without an asset: warehouse.shop.new: {FILES_CHANGED}"
    ]
    assert lines(Automation.of(shop.project, instance)) == []


def test_a_plan_cures_files_that_were_not_planned_without_a_reload(
    shop: Warehouse, instance: dg.DagsterInstance
) -> None:
    (shop.project / "models" / "new.sql").write_text(NEW)
    (shop.project / "models" / "best.sql").unlink()
    automation = Automation.of(shop.project, instance)
    assert lines(automation) == [
        f"{FROM} not in it: shop.new: {TAKEN_OUT}",
        f"{FROM} there without an asset: warehouse.shop.best: {ADDED}",
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
            f"{FROM} there without an asset: warehouse.shop.new: {ADDED}"
        ]
    assert lines(Automation.of(shop.project, instance, source="environment")) == []
    assert lines(Automation.of(newer, instance)) == []


def test_files_that_do_not_load_are_to_be_mended(
    shop: Warehouse, instance: dg.DagsterInstance
) -> None:
    location = Automation.of(shop.project, instance).location
    state = location.planner.plan(instance, PLANNED_AT).state
    manifest = replace(location.manifest, outdated="a.sql does not load")
    differences = drift(manifest, replace(state, hashes={}), location.settings).values()
    cure = "mend the project's files, which do not load, and reload"
    assert differences
    assert all(cure in each.text for each in differences)


def test_a_persons_check_tells_what_a_tick_would(
    shop: Warehouse, instance: dg.DagsterInstance
) -> None:
    change_logic(shop)
    automation = Automation.of(shop.project, instance)
    run = run_checks(automation, "totals", "best")
    assert run.success
    results = {key: (check.passed, check.description) for key, check in run.drift().items()}
    assert results == {"shop/totals": (False, LOGIC), "shop/best": (True, None)}
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
    run = run_checks(automation, "totals")
    # As with audits: nothing was found out, which is not the model's failure.
    assert run.success
    assert run.drift() == {}
    assert any("The checks have no result from this run." in line for line in run.log())
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
    assert run.drift().keys() == {"shop/events", "shop/totals"}
    # Each model's own step tells; the step of the checks would wait for them.
    told = run.events(dg.DagsterEventType.ASSET_CHECK_EVALUATION)
    of_drift = [each for each in told if each.event_specific_data.check_name == CHECK]
    assert {each.step_key for each in of_drift} == {"shop__events", "shop__totals"}


def test_a_model_that_comes_to_nothing_keeps_what_was_told_of_it(
    shop: Warehouse, instance: dg.DagsterInstance
) -> None:
    """A person materializes a model that was not planned, with its checks, as Dagster offers it."""
    (shop.project / "models" / "new.sql").write_text(NEW)
    automation = Automation.of(shop.project, instance)
    lines(automation)
    missing = f"shop.new is not in the SQLMesh environment: {TAKEN_OUT}"
    assert shown(instance, "new") == (False, missing)
    keys = {dg.AssetKey(["shop", "new"])}
    checks = list(automation.repository.asset_graph.get_check_keys_for_assets(keys))
    run = automation.execute(keys, {"sqlmesh/execution_time": NEXT_DAY.isoformat()}, checks)
    assert not run.success
    assert shown(instance, "new") == (False, missing)
    assert run.drift()["shop/new"].description == missing


def test_an_automated_run_asks_for_none_and_its_steps_tell(
    shop: Warehouse, instance: dg.DagsterInstance
) -> None:
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
    assert run.drift().keys() == run.materialized().keys()


# Whatever materializes, the check goes with it


def shown(instance: dg.DagsterInstance, model: str) -> tuple[bool, str | None] | None:
    """What Dagster's screens show of the check; ``None`` if "Not evaluated"."""
    key = dg.AssetCheckKey(dg.AssetKey(["shop", model]), CHECK)
    record = instance.event_log_storage.get_latest_asset_check_execution_by_key([key]).get(key)
    if record is None or record.evaluation is None:
        return None
    loading = LoadingContextForTest(instance)
    if not asyncio.run(record.targets_latest_materialization(loading)):
        return None
    return record.evaluation.passed, record.evaluation.description


def test_it_stays_visible_until_it_is_cured(shop: Warehouse, instance: dg.DagsterInstance) -> None:
    change_logic(shop)
    automation = Automation.of(shop.project, instance)
    lines(automation)
    assert shown(instance, "totals") == (False, LOGIC)
    _, run = automation.tick_and_run(NEXT_DAY)
    assert run is not None
    assert run.success
    assert shown(instance, "totals") == (False, LOGIC)
    assert shown(instance, "best") == (True, None)
    assert lines(automation) == [DIFFERS]
    projects.plan(shop.project, PLANNED_AT)
    assert lines(automation) == []
    assert shown(instance, "totals") == (True, None)
    _, run = automation.tick_and_run(NEXT_DAY + timedelta(days=1))
    assert run is not None
    assert run.success
    assert shown(instance, "totals") == (True, None)


def test_a_run_that_has_loaded_newer_files_than_the_code_location_hides_it_for_a_tick_only(
    shop: Warehouse, instance: dg.DagsterInstance
) -> None:
    """Changed and planned, and not reloaded: each run's process loads the files of now."""
    location = Automation.of(shop.project, instance)
    assert lines(location) == []
    change_logic(shop)
    projects.plan(shop.project, PLANNED_AT)
    (line,) = lines(location)
    differs = f"shop.totals {HOLDS} its logic: {FILES_CHANGED}"
    assert line == f"{FROM} in another version: shop.totals: {FILES_CHANGED}"
    assert Automation.of(shop.project, instance).run(["shop/totals"], NEXT_DAY).success
    assert shown(instance, "totals") == (True, None)
    lines(location)
    time.sleep(1.1)  # Dagster's SQLite storage keeps the moment of a check in whole seconds
    lines(location)
    assert shown(instance, "totals") == (False, differs)
    reported = len(evaluations(instance, "totals"))
    lines(location)
    assert len(evaluations(instance, "totals")) == reported


def test_a_materialization_has_the_code_version_that_was_evaluated(
    shop: Warehouse, instance: dg.DagsterInstance
) -> None:
    planned = Automation.of(shop.project, instance).location.manifest
    change_logic(shop)
    automation = Automation.of(shop.project, instance)
    _, run = automation.tick_and_run(NEXT_DAY)
    assert run is not None
    of_definition = {
        model.name: model.code_version for model in automation.location.manifest.models
    }
    assert versions(run) == {model.name: model.code_version for model in planned.executed}
    assert versions(run) != of_definition


def versions(run: Run) -> dict[str, str | None]:
    return {
        ".".join(event.asset_key.path): event.tags["dagster/code_version"]
        for event in (
            each.event_specific_data.materialization
            for each in run.events(dg.DagsterEventType.ASSET_MATERIALIZATION)
        )
    }


def test_what_is_evaluated_outside_dagster_shows_it_and_in_the_order_of_the_models(
    shop: Warehouse, instance: dg.DagsterInstance
) -> None:
    change_logic(shop)
    automation = Automation.of(shop.project, instance)
    planner = automation.location.planner
    plan = planner.plan(instance, PLANNED_AT)
    told = list(planner.report_outside(instance, plan))
    assert len(told) == 4
    names = [line.split()[0] for line in told]
    assert names.index("shop.events") < names.index("shop.totals") < names.index("shop.best")
    assert shown(instance, "totals") == (False, LOGIC)
    assert shown(instance, "best") == (True, None)


def test_a_failed_model_shows_it_too(shop: Warehouse, instance: dg.DagsterInstance) -> None:
    automation = Automation.of(shop.project, instance)
    shop.fail("shop.totals")
    run = automation.run(["shop/totals"], NEXT_DAY)
    assert not run.success
    assert shown(instance, "totals") == (True, None)


def run_checks(automation: Automation, *models: str) -> Run:
    keys = {dg.AssetCheckKey(dg.AssetKey(["shop", model]), CHECK) for model in models}
    return automation.execute(set(), {}, list(keys))
