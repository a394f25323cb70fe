"""The jobs that people launch: restatements, and previews of plans."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from filelock import FileLock
from support import projects
from support.outcome_helpers import runless
from support.targets import add_target
from support.ticks import Automation
from support.warehouse import MODELS, Warehouse, warehouse

RESTATE = "sqlmesh_prod_restate"
PREVIEW = "sqlmesh_prod_plan_preview"
NAMES = ("shop.events", "shop.customers", "shop.totals", "shop.best")


@pytest.fixture
def shop(tmp_path: Path) -> Warehouse:
    """Planned up to today: restatements are of now, and not of a simulated moment."""
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    raw = [
        "UPDATE raw.events SET day = day + CAST("
        f"DATE '{today:%Y-%m-%d}' - DATE '2026-11-30' AS INT)"
    ]
    begin = f"cron '@daily', start '{days_ago(10)}'"
    models = {path: text.replace("cron '@daily'", begin) for path, text in MODELS.items()}
    return warehouse(tmp_path / "shop", raw=raw, at=today, models=models)


def execute(
    shop: Warehouse, instance: dg.DagsterInstance, job: str, config: dict[str, Any] | None = None,
    **settings: Any,
) -> tuple[dg.ExecuteInProcessResult, str]:  # fmt: skip
    """A job's run, and the report that it shows."""
    automation = Automation.of(shop.project, instance, **settings)
    ops = {f"{RESTATE}_models": {"config": config}} if config else {}
    result = automation.location.definitions.resolve_job_def(job).execute_in_process(
        instance=instance, run_config={"ops": ops}, raise_on_error=False
    )
    report = ""
    for event in result.all_events:
        if event.is_successful_output:
            report = str(event.step_output_data.metadata["report"].value)
    return result, report


def log(instance: dg.DagsterInstance, result: dg.ExecuteInProcessResult) -> str:
    return "\n".join(entry.user_message for entry in instance.all_logs(result.run_id))


def days_ago(days: int) -> str:
    return f"{datetime.now(UTC) - timedelta(days=days):%Y-%m-%d}"


def correct(shop: Warehouse) -> None:
    """Corrects all raw data, so that whatever is evaluated again differs."""
    shop.query("UPDATE raw.events SET amount = amount + 1000")


def corrected_days(shop: Warehouse) -> set[str]:
    rows = shop.query("SELECT DISTINCT day FROM shop.events WHERE amount >= 1000")
    return {f"{day:%Y-%m-%d}" for (day,) in rows}


def test_at_first_it_only_tells(shop: Warehouse, instance: dg.DagsterInstance) -> None:
    correct(shop)
    before = shop.tables(), shop.intervals()
    config = {"models": ["shop.events"], "start": days_ago(3), "end": days_ago(2)}
    result, report = execute(shop, instance, RESTATE, config)
    assert result.success
    for name in NAMES:
        assert f"| {name} | restated | " in report
    day = f"{days_ago(3)} 00:00 to {days_ago(1)} 00:00 UTC"
    assert f"| shop.events | restated | {day} |" in report
    assert "dry_run: false" in log(instance, result)
    assert (shop.tables(), shop.intervals()) == before


def test_launched_as_it_is_it_does_nothing_and_says_so(
    shop: Warehouse, instance: dg.DagsterInstance
) -> None:
    correct(shop)
    before = shop.tables(), shop.intervals()
    result, report = execute(shop, instance, RESTATE)
    assert result.success
    assert report == "No models are named, so nothing would be evaluated again."
    assert "such as models: [sales.orders]" in log(instance, result)

    refused, _ = execute(shop, instance, RESTATE, {"dry_run": False})
    assert not refused.success
    (failure,) = (event for event in refused.all_events if event.is_step_failure)
    assert "Name some in `models`" in str(failure.step_failure_data.user_failure_data)
    assert (shop.tables(), shop.intervals()) == before


def test_a_restatement_evaluates_again_and_is_reported_once(
    shop: Warehouse, instance: dg.DagsterInstance
) -> None:
    automation = Automation.of(shop.project, instance)
    at = datetime.now(UTC)
    planner = automation.location.planner
    list(planner.report_outside(instance, planner.plan(instance, at)))
    known = {name: len(runless(instance, name.replace(".", "/"))) for name in NAMES}
    before = shop.intervals()
    correct(shop)

    config = {
        "models": ["shop.events"], "start": days_ago(3), "end": days_ago(3), "dry_run": False,
    }  # fmt: skip
    result, _ = execute(shop, instance, RESTATE, config)
    assert result.success, log(instance, result)
    assert corrected_days(shop) == {days_ago(3)}
    assert shop.intervals() == before

    for _ in range(2):
        list(planner.report_outside(instance, planner.plan(instance, datetime.now(UTC))))
        assert {
            name: len(runless(instance, name.replace(".", "/"))) - known[name] for name in NAMES
        } == dict.fromkeys(NAMES, 1)


def test_only_what_is_deployed_is_restated(shop: Warehouse, instance: dg.DagsterInstance) -> None:
    Automation.of(shop.project, instance)
    file = shop.project / "models" / "events.sql"
    file.write_text(file.read_text().replace("amount +", "amount + 5000 +"))
    config = {"models": ["shop.events"], "start": days_ago(3), "dry_run": False}
    result, _ = execute(shop, instance, RESTATE, config)
    assert result.success, log(instance, result)
    assert shop.query("SELECT COUNT(*) FROM shop.events WHERE amount > 4000") == [(0,)]
    _, report = execute(shop, instance, PREVIEW)
    assert "| shop.events | modified, breaking |" in report


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"models": ["shop.nothing"], "start": "3 days ago"}, "Selector did not return any models"),
        ({"models": ["shop.events"], "start": "whenever"}, "whenever"),
        ({"models": ["shop.events"], "start": "2020-01-01", "end": "2020-01-02"}, "Nothing to"),
    ],
)
def test_what_cannot_be_restated_is_an_error(
    shop: Warehouse, instance: dg.DagsterInstance, config: dict[str, Any], said: str
) -> None:
    result, _ = execute(shop, instance, RESTATE, config)
    assert not result.success
    (failure,) = (event for event in result.all_events if event.is_step_failure)
    text = str(failure.step_failure_data.error)
    assert said in text


@pytest.mark.parametrize(
    "selection",
    ["git:--output={file}", "+GIT : --output={file}", "shop.best) | (git:--output={file}"],
)
def test_nothing_that_is_written_reaches_a_command(
    shop: Warehouse, instance: dg.DagsterInstance, tmp_path: Path, selection: str
) -> None:
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.com"]
    for words in (["init", "-q"], ["add", "models"], ["commit", "-qm", "all"]):
        subprocess.run([*git, *words], cwd=shop.project, check=True)
    file = tmp_path / "overwritten"
    models = [selection.format(file=file), "shop.events"]
    result, _ = execute(shop, instance, RESTATE, {"models": models, "start": "3 days ago"})
    # Git adds three dots to what it takes for a branch.
    assert not Path(f"{file}...").exists()
    assert not result.success
    (failure,) = (event for event in result.all_events if event.is_step_failure)
    assert "SelectionRefused" in str(failure.step_failure_data.error)


def test_it_waits_for_whoever_evaluates_and_names_it(
    shop: Warehouse, instance: dg.DagsterInstance
) -> None:
    correct(shop)
    before = shop.tables()
    file = shop.project / "warehouse.duckdb"
    with FileLock(f"{file}.lock"):
        Path(f"{file}.lock.holder").write_text("run 4f1c")
        config = {"models": ["shop.events"], "start": days_ago(3), "dry_run": False}
        result, _ = execute(shop, instance, RESTATE, config, lease_timeout_seconds=1)
    assert not result.success
    assert "Waiting: run 4f1c holds" in log(instance, result)
    assert shop.tables() == before


def test_a_model_that_fails_fails_the_restatement(
    shop: Warehouse, instance: dg.DagsterInstance
) -> None:
    before = shop.intervals()
    shop.fail("shop.totals")
    config = {"models": ["shop.events"], "start": days_ago(2), "dry_run": False}
    result, _ = execute(shop, instance, RESTATE, config)
    assert not result.success
    # Nothing is missing for that: SQLMesh has the data of before.
    assert shop.intervals() == before


def test_a_preview_tells_what_a_plan_would_change_and_changes_nothing(
    shop: Warehouse, instance: dg.DagsterInstance
) -> None:
    result, report = execute(shop, instance, PREVIEW)
    assert result.success
    assert "nothing to plan" in log(instance, result)
    models = shop.project / "models"
    (models / "best.sql").unlink()
    (models / "new.sql").write_text(
        "MODEL (name shop.new, kind FULL);\nSELECT id FROM shop.customers\n"
    )
    totals = (models / "totals.sql").read_text()
    (models / "totals.sql").write_text(totals.replace("@daily", "@weekly"))
    customers = (models / "customers.sql").read_text()
    (models / "customers.sql").write_text(customers.replace("% 50", "% 40"))
    before = shop.tables(), shop.intervals(), environments(shop)
    result, report = execute(shop, instance, PREVIEW)
    assert result.success, log(instance, result)
    rows = {row.split(" | ")[0].strip("| "): row.split(" | ")[1] for row in report.splitlines()[2:]}
    assert rows == {
        "warehouse.shop.best": "removed",
        "shop.new": "added",
        "shop.totals": "metadata only",
        "shop.customers": "modified, breaking",
    }
    assert (shop.tables(), shop.intervals(), environments(shop)) == before


def environments(shop: Warehouse) -> list[Any]:
    return shop.query("SELECT name, plan_id, finalized_ts FROM sqlmesh._environments")


def test_each_environment_has_its_own(shop: Warehouse, instance: dg.DagsterInstance) -> None:
    projects.plan(shop.project, datetime.now(UTC), "dev", include_unmodified=True)
    automation = Automation.of(shop.project, instance, environment="dev", name="finance")
    names = {job.name for job in automation.location.definitions.resolve_all_job_defs()}
    assert {"sqlmesh_finance_dev_restate", "sqlmesh_finance_dev_plan_preview"} <= names


def test_the_launchpad_explains_the_settings() -> None:
    from dagster_sqlmesh_automation.automation.jobs import RestateConfig

    for name, field in RestateConfig.model_fields.items():
        assert field.description, name


@pytest.mark.parametrize("notifications", [True, False])
def test_a_notification_target_that_raises_fails_no_restatement(
    shop: Warehouse, instance: dg.DagsterInstance, notifications: bool
) -> None:
    add_target(shop)
    (shop.project / "target-raises").touch()
    config = {"models": ["shop.events"], "start": days_ago(3), "dry_run": False}
    result, _ = execute(shop, instance, RESTATE, config, notifications=notifications)

    assert result.success
    lines = log(instance, result)
    for event in ("apply_start", "apply_end"):
        assert (f"FileTarget could not be told of {event}" in lines) is notifications
