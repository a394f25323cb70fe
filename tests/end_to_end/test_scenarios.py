"""Settings of the automation on a real project, tick after tick, at simulated moments."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from support.ticks import Automation, Run
from support.warehouse import MODELS, NEXT_DAY, PLANNED_AT, START, Warehouse, warehouse

from dagster_sqlmesh_automation.automation.cli.doctor import environment
from dagster_sqlmesh_automation.automation.cli.findings import Examined

ALL = {"shop/events", "shop/customers", "shop/totals", "shop/best"}
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
BOTH = {
    "models/both.sql": """
MODEL (name shop.both, kind FULL, cron '@daily');
SELECT c.id, t.amount FROM shop.customers AS c, shop.totals AS t
"""
}
BERLIN = {"@daily": "0 6 * * * Europe/Berlin"}


@pytest.fixture
def shop(tmp_path: Path) -> Warehouse:
    return warehouse(tmp_path / "shop")


def held(automation: Automation, at: datetime) -> dict[str, str]:
    """What a tick holds, and why; it must request nothing."""
    tick = automation.tick(at)
    assert tick.requested == set()
    return {decision.name: decision.held for decision in tick.plan.due}


def runs_until_idle(automation: Automation, at: datetime, most: int = 9) -> list[Run]:
    found: list[Run] = []
    while len(found) < most:
        _, run = automation.tick_and_run(at)
        if run is None:
            return found
        assert run.success
        found.append(run)
    raise AssertionError(f"{most} runs were not enough")


def intervals(run: Run, name: str) -> list[tuple[datetime, datetime]]:
    return list(run.by_name()[name].intervals)


def test_a_mapped_schedule_opens_in_its_own_time_zone(
    shop: Warehouse, instance: dg.DagsterInstance
) -> None:
    automation = Automation.of(shop.project, instance, cron_map=BERLIN)
    early = held(automation, NEXT_DAY + 3 * HOUR + timedelta(minutes=59))
    assert early["shop.events"] == (
        "its schedule 0 6 * * * Europe/Berlin fires at 2026-10-09 04:00 UTC"
    )

    tick, run = automation.tick_and_run(NEXT_DAY + 4 * HOUR)
    assert tick.requested == ALL
    assert run is not None
    assert intervals(run, "shop.events") == [(PLANNED_AT, NEXT_DAY)]
    assert automation.tick(NEXT_DAY + 12 * HOUR).requested == set()


@pytest.mark.parametrize(("day", "hour"), [(24, 4), (25, 5)], ids=["summer time", "winter time"])
def test_the_window_moves_with_the_clocks(
    shop: Warehouse, instance: dg.DagsterInstance, day: int, hour: int
) -> None:
    automation = Automation.of(shop.project, instance, cron_map=BERLIN)
    automation.tick_and_run(datetime(2026, 10, day - 1, 12, tzinfo=UTC))
    opens = datetime(2026, 10, day, hour, tzinfo=UTC)
    assert held(automation, opens - timedelta(seconds=1))
    assert automation.tick(opens).requested == ALL


def test_what_is_off_is_never_requested(shop: Warehouse, instance: dg.DagsterInstance) -> None:
    automation = Automation.of(shop.project, instance, cron_map={"0 0 * * *": "off"})
    reasons = held(automation, NEXT_DAY + 30 * DAY)
    assert reasons["shop.events"] == "paused by CRON_MAP 0 0 * * *"


def test_times_in_reasons_are_in_the_settings_zone(
    shop: Warehouse, instance: dg.DagsterInstance
) -> None:
    automation = Automation.of(
        shop.project, instance, cron_map={"@daily": "0 6 * * *"}, timezone="Europe/Berlin"
    )
    reasons = held(automation, NEXT_DAY)
    assert reasons["shop.events"].endswith("fires at 2026-10-09 06:00 CEST")


def test_one_run_catches_up_with_days_of_missed_ticks(
    shop: Warehouse, instance: dg.DagsterInstance
) -> None:
    automation = Automation.of(shop.project, instance)
    (run,) = runs_until_idle(automation, NEXT_DAY + 6 * DAY)
    assert intervals(run, "shop.events") == [(PLANNED_AT, NEXT_DAY + 6 * DAY)]


def test_a_stale_environment_is_worked_off_in_runs_of_a_few_models_upstream_first(
    shop: Warehouse, instance: dg.DagsterInstance
) -> None:
    automation = Automation.of(shop.project, instance, max_models_per_run=1)
    first = automation.tick(NEXT_DAY)
    reasons = {decision.name: decision.held for decision in first.plan.due}
    assert first.requested == {"shop/events"}
    assert reasons["shop.totals"].startswith("this tick's run has its 1 models")

    runs = runs_until_idle(automation, NEXT_DAY)
    order = [name for run in runs for name in run.by_name()]
    assert sorted(order) == sorted(name.replace("/", ".") for name in ALL)
    assert order.index("shop.events") == 0
    assert order.index("shop.totals") < order.index("shop.best")
    assert shop.intervals()["shop.best"] == [[START.isoformat(), NEXT_DAY.isoformat()]]


def test_a_model_whose_upstream_is_due_again_before_its_turn_goes_with_it_and_all_are_told(
    shop: Warehouse, instance: dg.DagsterInstance
) -> None:
    automation = Automation.of(
        shop.project, instance, max_models_per_run=1, models={"shop.customers": {"paused": True}}
    )
    first, _ = automation.tick_and_run(NEXT_DAY + HOUR)
    assert (first.requested, first.plan.warnings) == ({"shop/events"}, [])

    tick, run = automation.tick_and_run(NEXT_DAY + DAY)
    assert tick.requested == {"shop/events", "shop/totals"}
    assert run is not None
    assert intervals(run, "shop.events") == [(NEXT_DAY, NEXT_DAY + DAY)]
    told = (
        "shop.totals goes with all that is due upstream of it, 2 models and more than "
        "SQLMESH_AUTOMATION_MAX_MODELS_PER_RUN=1: they are due again before runs of so few come "
        "to it"
    )
    assert tick.plan.warnings == [told]
    findings = environment(Examined(automation.location, instance, tick.plan, seconds=0.0))
    assert [finding.level for finding in findings if finding.text == told] == ["advice"]
    assert automation.tick(NEXT_DAY + DAY).requested == {"shop/best"}


def in_progress(automation: Automation, *assets: str) -> dg.DagsterRun:
    job = automation.location.definitions.resolve_implicit_global_asset_job_def()
    selection = {dg.AssetKey(asset.split("/")) for asset in assets}
    return automation.instance.create_run_for_job(
        job.get_subset(asset_selection=selection),
        asset_selection=selection,
        status=dg.DagsterRunStatus.STARTED,
    )


def test_models_that_have_nothing_to_do_with_a_long_run_are_requested_beside_it(
    shop: Warehouse, instance: dg.DagsterInstance
) -> None:
    automation = Automation.of(shop.project, instance)
    assert automation.run(["shop/events"], NEXT_DAY).success
    run = in_progress(automation, "shop/totals")
    tick = automation.tick(NEXT_DAY)
    assert tick.requested == {"shop/customers"}
    reasons = {decision.name: decision.held for decision in tick.plan.due}
    assert reasons["shop.totals"] == f"run {run.run_id} is evaluating it"
    assert reasons["shop.best"] == f"upstream shop.totals is being evaluated by run {run.run_id}"
    assert held(automation, NEXT_DAY + DAY)["shop.events"] == (
        f"run {run.run_id} is evaluating shop.totals, which reads it"
    )


def test_what_would_put_off_a_model_that_runs_have_overtaken_waits_for_it(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    shop = warehouse(tmp_path / "shop", models={**MODELS, **BOTH})
    automation = Automation.of(shop.project, instance)
    assert automation.run(["shop/events", "shop/customers", "shop/totals"], NEXT_DAY + HOUR).success
    assert automation.run(["shop/events"], NEXT_DAY + DAY + HOUR).success
    # It began after all of them were due: the moments of the ticks have passed long ago.
    run = in_progress(automation, "shop/totals")
    reasons = held(automation, NEXT_DAY + DAY + 2 * HOUR)
    assert reasons == {
        "shop.customers": "shop.both has waited longer, and goes first",
        "shop.totals": f"run {run.run_id} is evaluating it",
        "shop.best": f"upstream shop.totals is being evaluated by run {run.run_id}",
        "shop.both": f"upstream shop.totals is being evaluated by run {run.run_id}",
    }
    instance.report_run_canceled(run)
    assert automation.tick(NEXT_DAY + DAY + 2 * HOUR).requested >= {"shop/customers"}


def test_no_more_runs_are_requested_than_may_execute_at_once(
    shop: Warehouse, instance: dg.DagsterInstance
) -> None:
    automation = Automation.of(shop.project, instance, max_concurrent_executions=1)
    assert automation.run(["shop/events"], NEXT_DAY).success
    run = in_progress(automation, "shop/totals")
    assert held(automation, NEXT_DAY)["shop.customers"] == (
        f"run {run.run_id} is in progress, and 1 at once is the limit"
    )


def test_a_least_gap_between_requests_counts_from_the_last_run(
    shop: Warehouse, instance: dg.DagsterInstance
) -> None:
    rules = {"shop.totals": {"min_gap_seconds": 36 * 3600}}
    automation = Automation.of(shop.project, instance, models=rules)
    (run,) = runs_until_idle(automation, NEXT_DAY)
    assert "shop.totals" in run.by_name()
    tick = automation.tick(NEXT_DAY + DAY)
    reasons = {decision.name: decision.held for decision in tick.plan.due}
    assert tick.requested == {"shop/events", "shop/customers"}
    assert "not before 2026-10-10 12:00 UTC" in reasons["shop.totals"]
    assert automation.tick(NEXT_DAY + 36 * HOUR).requested == ALL


def test_priority_and_group_come_from_the_rules(
    shop: Warehouse, instance: dg.DagsterInstance
) -> None:
    rules: dict[str, Any] = {
        "*": {"priority": 1},
        "kind:view": {"priority": 7, "group": "reports"},
    }
    automation = Automation.of(shop.project, instance, models=rules)
    (request,) = automation.tick(NEXT_DAY).run_requests
    assert request.tags["dagster/priority"] == "7"
    graph = automation.repository.asset_graph
    groups = {key.to_user_string(): graph.get(key).group_name for key in graph.get_all_asset_keys()}
    assert groups["shop/best"] == "reports"
    assert groups["shop/totals"] == "shop"


def test_the_tree_of_a_held_model_names_its_schedule(
    shop: Warehouse, instance: dg.DagsterInstance
) -> None:
    automation = Automation.of(shop.project, instance, cron_map=BERLIN)
    evaluations = automation.tick(NEXT_DAY).evaluations
    (events,) = (e for e in evaluations if e.key == dg.AssetKey(["shop", "events"]))
    labels = [child.condition_snapshot.name for child in events.child_evaluations]
    assert labels[:2] == ["due in SQLMesh (@daily)", "schedule open (0 6 * * * Europe/Berlin)"]
    (reason,) = events.child_evaluations[1].child_evaluations
    assert reason.condition_snapshot.label == "opens 06:00 Berlin"
