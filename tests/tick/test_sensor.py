"""The sensor: what it requests, holds, logs and records."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from generator import Design, generate_project
from support import projects
from support.ticks import Automation

from dagster_sqlmesh_automation.assets.ledger.run_tags import EXECUTION_TIME_TAG

FIRST = datetime(2026, 10, 14, 1, tzinfo=UTC)
MIDNIGHT = datetime(2026, 10, 15, tzinfo=UTC)


def test_a_run_in_progress_holds_its_models_and_what_reads_them(automation: Automation) -> None:
    job = automation.location.definitions.resolve_implicit_global_asset_job_def()
    selection = {dg.AssetKey(["staging", "orders"])}
    automation.instance.create_run_for_job(
        job.get_subset(asset_selection=selection),
        asset_selection=selection,
        status=dg.DagsterRunStatus.STARTED,
    )
    tick = automation.tick(FIRST)

    assert tick.requested == {
        "staging/web_events",
        "marketing/sessions",
        "staging/order_items",
    }
    held = {d.name for d in tick.plan.due if d.held}
    # With the asset, Dagster runs its check of a standalone audit, which reads the payments too.
    payments = "staging.payments"
    assert held == {"staging.orders", "sales.orders", "core.customer_profile", payments}


def test_a_run_of_a_whole_job_holds_its_models_too(automation: Automation) -> None:
    job = automation.location.definitions.resolve_implicit_global_asset_job_def()
    automation.instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    tick = automation.tick(FIRST)

    assert not tick.run_requests
    assert tick.skip_message is not None
    assert tick.skip_message.startswith("7 of 18 models due, all held: staging.")
    assert "is evaluating it (and 6 more)" in tick.skip_message


def test_an_ended_run_holds_nothing(automation: Automation) -> None:
    job = automation.location.definitions.resolve_implicit_global_asset_job_def()
    tags = {EXECUTION_TIME_TAG: (FIRST - timedelta(minutes=1)).isoformat()}
    automation.instance.create_run_for_job(job, status=dg.DagsterRunStatus.SUCCESS, tags=tags)
    assert automation.tick(FIRST).run_requests


def test_a_failed_model_is_not_asked_for_again_on_every_tick(
    automation: Automation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAFFLE_SHOP_FAIL", "1")
    first, run = automation.tick_and_run(MIDNIGHT)
    assert "marketing/customer_segments" in first.requested
    assert run is not None
    assert not run.success

    later = automation.tick(MIDNIGHT + timedelta(minutes=1))
    assert not later.run_requests
    held = {decision.name: decision.held for decision in later.plan.due}
    assert held["marketing.customer_segments"] == (
        f"failed in run {run.run_id}; attempt 2 of 3 at 2026-10-15 00:10 UTC"
    )
    assert "marketing.customer_segments is held" in held["marketing.campaign_audience"]

    monkeypatch.delenv("JAFFLE_SHOP_FAIL")
    again, second = automation.tick_and_run(MIDNIGHT + timedelta(days=1))
    assert second is not None
    assert {"marketing/customer_segments", "marketing/campaign_audience"} <= again.requested
    assert second.success


def test_a_new_plan_frees_a_failed_model(
    automation: Automation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAFFLE_SHOP_FAIL", "1")
    _, run = automation.tick_and_run(MIDNIGHT)
    assert run is not None
    monkeypatch.delenv("JAFFLE_SHOP_FAIL")

    model = automation.project / "models" / "marketing" / "campaign_audience.sql"
    model.write_text(model.read_text().replace("description '", "description 'Changed. ", 1))
    projects.plan(automation.project, projects.PLANNED_AT)

    tick = automation.tick(MIDNIGHT + timedelta(minutes=3))
    assert "marketing/customer_segments" in tick.requested


def test_a_plan_that_is_being_applied_skips_the_tick(automation: Automation) -> None:
    held = f"held: plan {projects.begin_plan(automation.project)} is being applied"
    tick = automation.tick(FIRST)
    assert not tick.run_requests
    assert tick.skip_message is not None
    assert tick.skip_message.endswith(held)
    assert {decision.reason for decision in tick.plan.decisions.values()} == {held}
    assert [decision.requested for decision in tick.plan.due] == [False] * 7
    lines = list(tick.plan.lines())
    assert tick.plan.summary(0).endswith(held)
    assert [held in line for line in lines] == [True] * 7


def test_nor_does_a_sensor_of_the_users_own_request_anything_meanwhile(
    automation: Automation,
) -> None:
    projects.begin_plan(automation.project)
    result = dg.evaluate_automation_conditions(
        defs=automation.location.definitions,
        instance=automation.instance,
        evaluation_time=FIRST,
    )
    assert result.total_requested == 0


def test_evaluations_are_stored_when_something_changed_and_only_then(
    automation: Automation,
) -> None:
    assert len(automation.tick(projects.PLANNED_AT).evaluations) == 20  # 18 models, an audit of 2
    assert not automation.tick(projects.PLANNED_AT).evaluations
    assert len(automation.tick(FIRST).evaluations) == 7


def test_the_tree_of_a_held_model_says_why(automation: Automation) -> None:
    job = automation.location.definitions.resolve_implicit_global_asset_job_def()
    run = automation.instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    evaluations = automation.tick(FIRST).evaluations
    (orders,) = (e for e in evaluations if e.key == dg.AssetKey(["sales", "orders"]))

    assert orders.condition_snapshot.label == "due in SQLMesh, nothing holds it"
    labels = [child.condition_snapshot.name for child in orders.child_evaluations]
    assert labels == [
        "due in SQLMesh (@hourly)",
        "schedule open (whenever it is due)",
        "not in progress",
        "upstream ready",
        "retry allowed",
        "within limits",
    ]
    (reason,) = orders.child_evaluations[2].child_evaluations
    assert reason.condition_snapshot.label == f"run {run.run_id[:8]} is evaluating it"
    # What Dagster shows where the mouse is on it.
    assert reason.condition_snapshot.name == f"run {run.run_id} is evaluating it"
    # A part without a label would show the text below it once more.
    assert all(child.condition_snapshot.label for child in orders.child_evaluations)


def test_labels_never_change_from_tick_to_tick(automation: Automation) -> None:
    def labels(at: datetime) -> dict[str, list[str]]:
        automation.cursor = None
        return {
            str(e.key): [child.condition_snapshot.unique_id for child in e.child_evaluations]
            for e in automation.tick(at).evaluations
        }

    assert labels(projects.PLANNED_AT) == labels(MIDNIGHT)


def test_a_tick_of_more_assets_and_checks_than_dagster_allows_is_still_one_run(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    models, audits = 50, 10
    project = tmp_path / "project"
    names = generate_project(
        project, models, Design(crons=[("@hourly", None)], kinds=["VIEW"], extras=())
    )
    ranges = ", ".join(f"accepted_range(column := 1, min_v := -{n})" for n in range(audits))
    for file in (project / "models").rglob("*.sql"):
        file.write_text(file.read_text().replace("MODEL (", f"MODEL (audits ({ranges}),", 1))
    projects.plan(project, projects.PLANNED_AT, skip_backfill=True, skip_tests=True)
    automation = Automation.of(project, instance)
    graph = automation.location.definitions.get_repository_def().asset_graph
    tick = automation.tick(FIRST)

    (request,) = tick.run_requests
    assert len(graph.asset_check_keys) == models * (audits + 1) > 500
    assert len(request.asset_check_keys or ()) == models * audits
    assert len(tick.requested) == len(names) == models
    assert request.tags["sqlmesh/models"] == str(models)


def test_the_sensor_is_off_unless_enabled(example: Path, instance: dg.DagsterInstance) -> None:
    assert Automation.of(example, instance).location.sensor.default_status.value == "STOPPED"
    enabled = Automation.of(example, instance, enabled=True, interval_seconds=7).location.sensor
    assert enabled.default_status.value == "RUNNING"
    assert enabled.minimum_interval_seconds == 7
    assert enabled.name == "sqlmesh_prod_automation"


def test_conditions_work_under_a_sensor_of_the_users_own(automation: Automation) -> None:
    result = dg.evaluate_automation_conditions(
        automation.location.definitions, automation.instance, evaluation_time=FIRST
    )
    assert result.total_requested == 7


def test_a_held_signal_leaves_the_lookback_alone(
    automation: Automation, executions: Callable[[], int]
) -> None:
    import duckdb

    with duckdb.connect(str(automation.project / "jaffle_shop.duckdb")) as connection:
        connection.execute("UPDATE raw.loads SET loaded_until = TIMESTAMP '2026-10-14'")
    tick, run = automation.tick_and_run(MIDNIGHT)

    assert run is not None
    assert "sales/daily_revenue" not in tick.requested
    decisions = {decision.name: decision for decision in tick.plan.decisions.values()}
    assert decisions["sales.daily_revenue"].reason == (
        "held: only its lookback is ready: signal raw_loads_complete holds it"
    )
    assert executions() == 1
