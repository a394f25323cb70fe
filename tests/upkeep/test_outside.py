"""What SQLMesh evaluates outside Dagster shows up in Dagster, once."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from support import projects, tables
from support.ticks import Automation
from support.warehouse import NEXT_DAY, PLANNED_AT, START, Warehouse, warehouse

from dagster_sqlmesh_automation.automation.upkeep.outside import OutsideEvaluations

NAMES = {f"shop/{name}" for name in ("events", "customers", "totals", "best")}
DAY = timedelta(days=1)


@pytest.fixture
def shop(tmp_path: Path) -> Warehouse:
    return warehouse(tmp_path / "shop")


@pytest.fixture
def automation(shop: Warehouse, instance: dg.DagsterInstance) -> Automation:
    return Automation.of(shop.project, instance)


def recover(automation: Automation, at: datetime) -> list[str]:
    """What a tick reports before it decides."""
    planner = automation.location.planner
    plan = planner.plan(automation.instance, at)
    return [
        *planner.recover(automation.instance),
        *planner.report_outside(automation.instance, plan),
    ]


def reported(automation: Automation, asset: str) -> list[Any]:
    """Metadata of an asset's materializations, oldest first; with ``run_id``."""
    key = dg.AssetKey(asset.split("/"))
    records = automation.instance.fetch_materializations(key, limit=100).records
    materializations = []
    for record in reversed(records):
        assert record.asset_materialization is not None
        metadata = {k: v.value for k, v in record.asset_materialization.metadata.items()}
        materializations.append({**metadata, "run_id": record.event_log_entry.run_id})
    return materializations


def counts(automation: Automation) -> dict[str, int]:
    return {name: len(reported(automation, name)) for name in NAMES}


def spans(metadata: Any) -> list[tuple[datetime, datetime]]:
    return [
        (datetime.fromisoformat(start), datetime.fromisoformat(end))
        for start, end in tables.evaluated(metadata)
    ]


@pytest.fixture
def adopted(automation: Automation) -> Automation:
    """After the first tick ever."""
    recover(automation, PLANNED_AT)
    assert counts(automation) == dict.fromkeys(NAMES, 1)
    return automation


def test_what_a_plan_evaluated_before_dagster_saw_it_is_reported_once(
    automation: Automation,
) -> None:
    lines = recover(automation, PLANNED_AT)

    assert sorted(lines) == sorted(
        f"{name.replace('/', '.')} was evaluated outside Dagster" for name in NAMES
    )
    for name in NAMES:
        (metadata,) = reported(automation, name)
        assert spans(metadata) == [(START, PLANNED_AT)]
        assert metadata["sqlmesh/outcome"] == "executed"
        assert metadata["sqlmesh/plan"]
        assert metadata["run_id"] == ""
    assert recover(automation, PLANNED_AT) == []
    assert counts(automation) == dict.fromkeys(NAMES, 1)


def test_another_process_and_one_beside_it_report_nothing_again(adopted: Automation) -> None:
    for _ in range(2):
        other = Automation.of(adopted.project, adopted.instance)
        assert recover(other, PLANNED_AT) == []
    assert counts(adopted) == dict.fromkeys(NAMES, 1)


def test_sqlmeshs_own_run_is_reported_with_exactly_its_intervals(adopted: Automation) -> None:
    projects.sqlmesh_run(adopted.project, NEXT_DAY)
    recover(adopted, NEXT_DAY)
    projects.sqlmesh_run(adopted.project, NEXT_DAY + 2 * DAY)
    recover(adopted, NEXT_DAY + 2 * DAY)

    _, first, second = reported(adopted, "shop/events")
    assert spans(first) == [(PLANNED_AT, NEXT_DAY)]
    assert spans(second) == [(NEXT_DAY, NEXT_DAY + 2 * DAY)]
    assert counts(adopted) == dict.fromkeys(NAMES, 3)


def test_a_restatement_is_reported_although_its_intervals_are_the_same_as_before(
    adopted: Automation,
) -> None:
    projects.plan(adopted.project, PLANNED_AT, restate_models=["shop.totals"])
    recover(adopted, PLANNED_AT)

    assert counts(adopted) == {**dict.fromkeys(NAMES, 1), "shop/totals": 2, "shop/best": 2}
    before, after = reported(adopted, "shop/totals")
    assert spans(before) == spans(after)
    assert before["sqlmesh/plan"] != after["sqlmesh/plan"]


def test_a_run_of_ours_is_not_reported_again(adopted: Automation) -> None:
    _, run = adopted.tick_and_run(NEXT_DAY)

    assert run is not None
    assert run.success
    assert recover(adopted, NEXT_DAY) == []
    assert counts(adopted) == dict.fromkeys(NAMES, 2)
    for name in NAMES:
        assert reported(adopted, name)[-1]["run_id"] == run.run_id


def test_batches_that_were_finished_before_one_failed_are_the_runs_own(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    partly = """
MODEL (name shop.partly, kind INCREMENTAL_BY_TIME_RANGE (time_column day, batch_size 1),
  cron '@daily');
SELECT id, day, CAST(CASE WHEN day > DATE '2026-10-09' THEN 'fails' ELSE '0' END AS INT) AS amount
FROM raw.events WHERE day BETWEEN @start_date AND @end_date
"""
    shop = warehouse(tmp_path / "shop", models={"models/partly.sql": partly})
    automation = Automation.of(shop.project, instance)
    recover(automation, PLANNED_AT)
    _, run = automation.tick_and_run(NEXT_DAY + 3 * DAY)

    assert run is not None
    assert run.by_name()["shop.partly"].batches == 2
    assert shop.intervals()["shop.partly"] == [[START.isoformat(), "2026-10-10T00:00:00+00:00"]]
    assert recover(automation, NEXT_DAY + 3 * DAY) == []
    assert len(reported(automation, "shop/partly")) == 1


def test_what_was_evaluated_outside_while_a_run_of_ours_waited_is_reported(
    adopted: Automation, shop: Warehouse
) -> None:
    tick = adopted.tick(NEXT_DAY)
    projects.sqlmesh_run(adopted.project, NEXT_DAY, select_models=["shop.totals"])
    shop.fail("shop.customers")
    (request,) = tick.run_requests
    run = adopted.execute(
        set(request.asset_selection or ()), request.tags, request.asset_check_keys
    )
    assert not run.success
    assert run.by_name()["shop.totals"].status.value == "up_to_date"
    recover(adopted, NEXT_DAY)
    assert recover(adopted, NEXT_DAY) == []

    for name in ("shop/events", "shop/totals"):
        executed = [m for m in reported(adopted, name) if m["sqlmesh/outcome"] == "executed"]
        assert [spans(metadata) for metadata in executed] == [
            [(START, PLANNED_AT)],
            [(PLANNED_AT, NEXT_DAY)],
        ]
    assert len(reported(adopted, "shop/best")) == 2


def test_upstream_models_that_a_run_drew_in_are_not_reported_again(adopted: Automation) -> None:
    run = adopted.run(["shop/best"], NEXT_DAY)

    assert run.success
    assert recover(adopted, NEXT_DAY) == []
    assert {name for name, count in counts(adopted).items() if count == 2} == {
        "shop/best",
        "shop/totals",
        "shop/events",
    }


def test_models_of_a_run_in_progress_and_what_they_read_are_left_to_it(
    adopted: Automation,
) -> None:
    job = adopted.location.definitions.resolve_implicit_global_asset_job_def()
    selection = {dg.AssetKey(["shop", "totals"])}
    run = adopted.instance.create_run_for_job(
        job.get_subset(asset_selection=selection),
        asset_selection=selection,
        status=dg.DagsterRunStatus.STARTED,
    )
    projects.sqlmesh_run(adopted.project, NEXT_DAY)
    recover(adopted, NEXT_DAY)
    assert counts(adopted) == {
        "shop/events": 1,
        "shop/totals": 1,
        "shop/best": 2,
        "shop/customers": 2,
    }

    adopted.instance.report_run_canceled(run)
    recover(adopted, NEXT_DAY)
    assert len(reported(adopted, "shop/events")) == 2


def test_after_the_janitors_compaction_all_recorded_intervals_are_named(
    adopted: Automation,
) -> None:
    projects.sqlmesh_run(adopted.project, NEXT_DAY)
    projects.with_context(adopted.project, lambda context: context.run_janitor(ignore_ttl=False))
    recover(adopted, NEXT_DAY)

    _, metadata = reported(adopted, "shop/events")
    assert spans(metadata) == [(START, NEXT_DAY)]


def test_a_dev_environment_has_evaluations_of_its_own(
    shop: Warehouse, instance: dg.DagsterInstance
) -> None:
    model = shop.project / "models" / "totals.sql"
    model.write_text(model.read_text().replace("GROUP BY", "WHERE amount < 1000 GROUP BY"))
    projects.plan(shop.project, PLANNED_AT, environment="dev", include_unmodified=True)
    automation = Automation.of(shop.project, instance, environment="dev")
    recover(automation, PLANNED_AT)
    assert counts(automation) == dict.fromkeys(NAMES, 1)

    projects.sqlmesh_run(shop.project, NEXT_DAY, environment="dev")
    recover(automation, NEXT_DAY)
    assert counts(automation) == dict.fromkeys(NAMES, 2)
    assert recover(automation, NEXT_DAY) == []


def test_a_tick_reports_for_some_seconds_only_and_the_next_ones_go_on(
    automation: Automation,
) -> None:
    planner = automation.location.planner
    planner._outside = OutsideEvaluations(
        planner._index, planner._nodes, planner._runs, planner._recovery, budget_seconds=-1
    )
    assert recover(automation, PLANNED_AT) == [
        "4 more were evaluated outside Dagster; next ticks tell"
    ]
    assert counts(automation) == dict.fromkeys(NAMES, 0)
    planner._outside._budget = 60
    assert len(recover(automation, PLANNED_AT)) == 4
    assert counts(automation) == dict.fromkeys(NAMES, 1)


def test_while_a_plan_is_being_applied_nothing_is_reported(automation: Automation) -> None:
    planner = automation.location.planner
    plan = planner.plan(automation.instance, PLANNED_AT)
    unfinished = replace(plan.facts, state=replace(plan.state, planned_at=None))
    plan = replace(plan, facts=unfinished)
    assert list(planner.report_outside(automation.instance, plan)) == []
    assert counts(automation) == dict.fromkeys(NAMES, 0)


def test_deciding_alone_writes_nothing(automation: Automation) -> None:
    automation.tick(datetime(2026, 10, 12, tzinfo=UTC))
    assert counts(automation) == dict.fromkeys(NAMES, 0)
