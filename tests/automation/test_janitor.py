"""SQLMesh's janitor: a job of its own, never part of a run that materializes models."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
from support.projects import plan, with_context
from support.ticks import Automation
from support.warehouse import NEXT_DAY, PLANNED_AT, Warehouse, warehouse

JOB = "sqlmesh_prod_janitor"


def abandoned(folder: Path) -> Warehouse:
    """A project with an environment that nobody wants any more."""
    shop = warehouse(folder / "project")
    plan(shop.project, PLANNED_AT, "dev", include_unmodified=True)
    with_context(shop.project, lambda context: context.invalidate_environment("dev"))
    assert "shop__dev" in schemas(shop)
    return shop


def schemas(shop: Warehouse) -> set[str]:
    rows = shop.query("SELECT DISTINCT table_schema FROM information_schema.tables")
    return {name for (name,) in rows}


def test_it_drops_what_expired_environments_leave_behind(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    shop = abandoned(tmp_path)
    automation = Automation.of(shop.project, instance)
    result = automation.repository.get_job(JOB).execute_in_process(instance=instance)
    assert result.success
    assert "shop__dev" not in schemas(shop)
    assert "shop" in schemas(shop)


def test_a_run_of_models_leaves_it_to_the_job(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    shop = abandoned(tmp_path)
    _, run = Automation.of(shop.project, instance).tick_and_run(NEXT_DAY)
    assert run is not None
    assert run.success
    assert "shop__dev" in schemas(shop)


def test_its_schedule_is_daily_and_starts_off(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    automation = Automation.of(warehouse(tmp_path / "project").project, instance)
    schedule = automation.repository.get_schedule_def(JOB)
    assert schedule.cron_schedule == "0 3 * * *"
    assert schedule.default_status is dg.DefaultScheduleStatus.STOPPED
    assert schedule.job_name == JOB
