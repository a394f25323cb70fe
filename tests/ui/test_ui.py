"""What a person sees in Dagster's UI, in a real browser, on the example.

One deployment for the module. Nearly everything is due at its first tick; one model waits at a
gate, so that a run can be seen in progress, and one fails, so that what reads it is held. The
pictures that the docs use come from here: set SCREENSHOTS to a folder to keep them.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support import projects
from support.deployment import MODULE, SENSOR, Deployment, LiveRun, LiveTick
from support.warehouse import sleeping

pytest.importorskip("playwright", reason="the browser is driven by Playwright")
from playwright.sync_api import expect
from support.browser import PATIENCE_MS, Browser, browser_on, chromium

pytestmark = pytest.mark.slow

CHECK = "assert_order_total_not_negative"
SENSOR_PAGE = f"/locations/__repository__@{MODULE}/sensors/{SENSOR}"
ONE_AT_A_TIME = """
concurrency:
  runs:
    tag_concurrency_limits:
      - {key: sqlmesh/environment, value: {applyLimitPerUniqueValue: true}, limit: 1}
"""


JOBS_PAGE = f"/locations/__repository__@{MODULE}/jobs"

LONG = "core.a_model_with_a_name_that_is_longer_than_a_pill"
# Planned yesterday: due since midnight, and not since a moment after which a schedule has fired.
HELD = {
    LONG: "SELECT 1 AS x",
    "core.reader": f"SELECT x FROM {LONG}",
    "core.paused": "SELECT 1 AS x",
}
IN_THREE_DAYS = datetime.now(UTC) + timedelta(days=3)
RULES = {
    LONG: {"schedule": f"0 6 * * {IN_THREE_DAYS.isoweekday() % 7} Europe/Berlin"},
    "core.paused": {"paused": True},
}


@dataclass(frozen=True)
class Stage:
    """A deployment that has gone through a run, and what was to be seen on the way.

    Attributes:
        in_progress: Text of the first run's page while a model was being evaluated.
        queue: Text of the page of queued runs meanwhile.
    """

    deployment: Deployment
    browser: Browser
    first: LiveRun
    in_progress: str
    queue: str
    idle: LiveTick


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    chromium()
    folder = tmp_path_factory.mktemp("ui")
    project = projects.copy_example(folder / "jaffle_shop")
    gate = folder / "gate" / "core.slow"
    gate.mkdir(parents=True)
    (gate / "open").touch()
    slow = sleeping("core.slow", ["staging.orders"]).replace(
        'context.var("gate")', repr(str(folder / "gate"))
    )
    (project / "models" / "core" / "slow.py").write_text(slow)
    projects.planned_in(project)
    for name, query in HELD.items():
        file = project / "models" / "core" / f"{name.partition('.')[2]}.sql"
        file.write_text(f"MODEL (name {name}, kind FULL); {query}")
    projects.plan(project, datetime.now(UTC) - timedelta(days=1), backfill_models=[*HELD])
    (gate / "open").unlink()
    unplanned = project / "models" / "finance" / "reconciliation.sql"
    unplanned.write_text(unplanned.read_text().replace("\nSELECT", "\nSELECT 1 AS unplanned,"))
    pictures = Path(os.environ.get("SCREENSHOTS", folder / "pictures"))
    with (
        Deployment(
            folder / "home",
            project,
            variables={"JAFFLE_SHOP_FAIL": "1"},
            dagster_yaml=ONE_AT_A_TIME,
            ENABLED="true",
            INTERVAL_SECONDS=10,
            MODELS=json.dumps(RULES),
        ) as deployment,
    ):
        tick = deployment.wait_for_tick("a tick that fires", lambda tick: tick.run_ids)
        with browser_on(deployment.url, pictures) as browser:
            deployment.wait_for("the model at the gate", (gate / "reached").exists)
            yield _played(deployment, browser, tick, gate)


def _played(deployment: Deployment, browser: Browser, tick: LiveTick, gate: Path) -> Stage:
    (run_id,) = tick.run_ids
    browser.open(f"/runs/{run_id}")
    # The page holds the lines that are in sight only.
    browser.page.get_by_placeholder("Filter").fill("executed:")
    browser.sees("executed:")
    in_progress = browser.text()
    browser.picture("run-in-progress")
    second = deployment.launch(["reference/store_regions"], **{"sqlmesh/environment": "prod"})
    browser.open("/runs")
    browser.sees("Queued (1)").click()
    browser.sees(second[:8])
    queue = browser.text()
    browser.picture("run-queued")
    (gate / "open").touch()
    first = deployment.wait_for_run(run_id)
    deployment.wait_for_run(second)
    idle = deployment.wait_for_tick(
        "a tick that skips", lambda each: each.skip_reason and each.tick_id > tick.tick_id
    )
    return Stage(deployment, browser, first, in_progress, queue, idle)


def test_a_run_in_progress_shows_each_model_as_sqlmesh_finishes_it(stage: Stage) -> None:
    assert "Terminate" in stage.in_progress
    assert re.search(r"staging\.\w+ executed: \d+ interval", stage.in_progress)
    assert "core.slow executed" not in stage.in_progress


def test_a_run_that_waits_for_another_one_is_seen_in_the_queue(stage: Stage) -> None:
    assert "reference / store_regions" in stage.queue
    assert "View queue criteria" in stage.queue
    assert "sqlmesh/environment: prod" in stage.queue


def test_the_automation_page_shows_the_sensor_switched_on(stage: Stage) -> None:
    stage.browser.open("/automation")
    stage.browser.sees(SENSOR, exact=True)
    stage.browser.sees("Automation condition sensor")
    # The janitor's schedule has a switch too, which is off.
    switched_on = stage.browser.page.locator("input[type=checkbox]:checked")
    expect(switched_on).to_have_count(1, timeout=PATIENCE_MS)
    stage.browser.picture("automation")


def test_the_sensors_page_lists_ticks_that_fire_and_ticks_that_do_not(stage: Stage) -> None:
    stage.browser.open(SENSOR_PAGE)
    stage.browser.sees("0 materializations requested")
    found = re.findall(r"(\d+) materializations requested", stage.browser.text())
    assert any(int(count) > 10 for count in found)
    stage.browser.picture("ticks")


def test_the_log_of_a_tick_says_why_it_asked_for_nothing(stage: Stage) -> None:
    assert stage.idle.skip_reason is not None
    stage.browser.open(SENSOR_PAGE)
    stage.browser.sees("View logs").click()
    stage.browser.sees("marketing.customer_segments held: ")
    summary = stage.browser.page.get_by_text(re.compile(r"^prod at .*: \d+ of \d+ models due"))
    expect(summary).to_have_count(1)
    expect(summary).to_be_in_viewport()
    stage.browser.picture("tick-log")


def test_the_log_of_a_tick_ends_with_its_summary_however_long_it_is(stage: Stage) -> None:
    stage.browser.open(SENSOR_PAGE)
    stage.browser.sees("View logs")
    stage.browser.page.get_by_role("button", name="View logs").last.click()
    summary = stage.browser.page.get_by_text(re.compile(r"^prod at .*, \d+ requested$"))
    expect(summary).to_be_in_viewport(timeout=PATIENCE_MS)
    assert stage.browser.text().count("evaluated outside") > 10
    stage.browser.picture("tick-log-of-the-first")


@pytest.mark.parametrize(
    ("asset", "part", "seen"),
    [
        (LONG.replace(".", "/"), "schedule open", f"opens {IN_THREE_DAYS:%a} 06:00 Berlin"),
        ("core/reader", "upstream ready", f"a_model_.*n_a_pill: {IN_THREE_DAYS:%a} 06:00 Berlin"),
        ("core/paused", "schedule open", "paused by MODELS core.paused"),
        ("marketing/customer_segments", "retry allowed", r"retry (\w+ )?\d\d:\d\d \(\d of 3\)"),
        (
            "marketing/campaign_audience",
            "upstream ready",
            r"waits for customer_segments \((\w+ )?\d\d:\d\d\)",
        ),
        ("sales/daily_revenue", "due in SQLMesh (", "waits for signal raw_loads_complete"),
        ("sales/revenue_by_store", "due in SQLMesh (", r"waits for daily_revenue \(signal\)"),
        ("core/slow", "due in SQLMesh (", r"next \d{4}-\d\d-\d\d 00:00"),
    ],
)
def test_the_asset_page_shows_why_a_model_is_held_and_until_when(
    stage: Stage, asset: str, part: str, seen: str
) -> None:
    def shown() -> list[str] | None:
        stage.browser.open(f"/assets/{asset}?view=automation")
        stage.browser.sees("Not requested")
        # The newest evaluation's moment opens its tree.
        stage.browser.page.get_by_text(re.compile(r"\d\d:\d\d:\d\d")).first.click()
        stage.browser.sees(part)
        pills = stage.browser.pills()
        (above,) = (number for number, pill in enumerate(pills) if pill.startswith(part))
        # A run of what is due every five minutes may hold it for a moment.
        return pills if re.match(seen, pills[above + 1]) else None

    pills = stage.deployment.wait_for(f"{asset}: {seen}", shown)
    if "campaign" in asset:
        stage.browser.picture("held")
    assert not [pill for pill in pills if "[cut]" in pill]
    assert len(set(pills)) == len(pills), "nothing stands there twice"


def test_restatements_begin_with_a_launchpad_that_can_be_launched_as_it_is(stage: Stage) -> None:
    stage.browser.open(f"{JOBS_PAGE}/sqlmesh_prod_restate/playground")
    for line in ("models: []", "start: 1 day ago", "dry_run: true"):
        stage.browser.sees(line)
    # Beside it Dagster explains what the cursor is in.
    stage.browser.page.locator(".CodeMirror-line", has_text="dry_run: true").click()
    stage.browser.sees("Only tell which models")
    _launched(stage, "restate")
    stage.browser.page.get_by_placeholder("Filter").fill("models are named")
    stage.browser.sees("No models are named, so nothing would be evaluated again")
    stage.browser.picture("restated")


@pytest.mark.parametrize("job", ["plan_preview", "janitor"])
def test_other_jobs_need_no_settings(stage: Stage, job: str) -> None:
    stage.browser.open(f"{JOBS_PAGE}/sqlmesh_prod_{job}/playground")
    _launched(stage, job)


def _launched(stage: Stage, job: str) -> None:
    """Launches what the launchpad has, and waits until that run has succeeded."""
    launch = stage.browser.page.get_by_role("button", name="Launch Run")
    expect(launch).to_be_enabled(timeout=PATIENCE_MS)
    stage.browser.sees("No errors")
    stage.browser.picture(f"launchpad-{job}")
    launch.click()
    stage.browser.page.wait_for_url(re.compile(r"/runs/[-0-9a-f]{36}"))
    run = stage.deployment.wait_for_run(stage.browser.page.url.partition("/runs/")[2][:36])
    assert run.status == "SUCCESS"


def test_the_asset_page_shows_checks(stage: Stage) -> None:
    stage.browser.open("/assets/sales/orders?view=checks")
    stage.browser.sees(CHECK)
    stage.browser.sees("Succeeded")
    stage.browser.picture("checks")


def test_drift_is_to_be_seen_until_it_is_cured(stage: Stage) -> None:
    """The model has been evaluated since, as the environment has it: without the new column."""
    drifts = "finance.reconciliation differs from what the SQLMesh environment holds in its logic"
    stage.browser.open("/assets/finance/reconciliation?view=checks&checkDetail=sqlmesh_environment")
    stage.browser.sees(drifts)
    stage.browser.picture("drift")
    stage.browser.open(SENSOR_PAGE)
    stage.browser.sees("View logs").click()  # of a tick later than the run that evaluated it
    stage.browser.sees("in another version: finance.reconciliation: plan it")


def test_execute_on_a_check_runs_its_audit_and_no_model(stage: Stage) -> None:
    deployment, orders = stage.deployment, frozenset({"sales/orders"})
    before = deployment.materializations(orders)
    known = {run.run_id for run in deployment.runs()}
    stage.browser.open(f"/assets/sales/orders?view=checks&checkDetail={CHECK}")
    buttons = stage.browser.page.locator("button")
    buttons.filter(has_text=re.compile(r"^Execute$")).first.click()
    run_id = deployment.wait_for(
        "a run of the check",
        lambda: next((run.run_id for run in deployment.runs() if run.run_id not in known), None),
    )
    assert deployment.wait_for_run(run_id).status == "SUCCESS"
    stage.browser.open(f"/assets/sales/orders?view=checks&checkDetail={CHECK}")
    stage.browser.sees("sqlmesh/intervals")
    stage.browser.sees("Passed")
    stage.browser.picture("check-executed")
    assert deployment.materializations(orders) == before
    stage.browser.open(f"/runs/{run_id}")
    stage.browser.sees("audits of sales.orders: 1 of 1 passed")
    stage.browser.picture("check-executed-run")


def test_the_failed_run_names_the_model_and_sqlmeshs_error(stage: Stage) -> None:
    stage.browser.open(f"/runs/{stage.first.run_id}")
    stage.browser.sees("marketing.customer_segments failed")
    stage.browser.picture("run-failed")


def test_the_asset_page_shows_columns_with_types_and_descriptions(stage: Stage) -> None:
    stage.browser.open("/assets/sales/orders?view=overview")
    stage.browser.sees("ordered_at", exact=True)
    stage.browser.sees("When the order was placed, in UTC.")
    stage.browser.sees("DECIMAL(12, 2)")
    stage.browser.picture("columns")


def test_the_events_page_shows_recorded_intervals_as_a_table(stage: Stage) -> None:
    stage.browser.open("/assets/sales/orders?view=events")
    stage.browser.sees("sqlmesh/recorded")
    stage.browser.sees("evaluated now", exact=True)
    stage.browser.sees("next, due")
    stage.browser.picture("intervals")
    text = stage.browser.text()
    assert re.search(r"2026-10-14 00:00 UTC\s+\d{4}-\d\d-\d\d \d\d:00 UTC\s+evaluated now", text)
    assert stage.first.run_id[:8] in text
    assert "+00:00" not in text


def test_the_catalog_shows_names_and_descriptions_of_models(stage: Stage) -> None:
    stage.browser.open("/assets")
    stage.browser.sees("Every version of every customer")
    stage.browser.picture("catalog")
    text = stage.browser.text()
    # Dagster shows a description in one line, as far as it fits.
    assert not re.search(r"^\s*```", text, re.MULTILINE)
    assert "core / customer_history" in text
