"""Models that have ended, or start later: what is said of them, and what SQLMesh does."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from click.testing import CliRunner
from support import projects
from support.ticks import Automation

from dagster_sqlmesh_automation.assets.ledger.outcome import OutcomeStatus
from dagster_sqlmesh_automation.assets.project.spans import fixed
from dagster_sqlmesh_automation.automation.cli.main import main

MIDNIGHT = datetime(2026, 10, 9, tzinfo=UTC)
PLANNED_AT = MIDNIGHT - timedelta(days=1)
DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)
BY_DAY = "INCREMENTAL_BY_TIME_RANGE (time_column day)"
FILES = {
    "config.yaml": """
gateways: {main: {connection: {type: duckdb, database: FOLDER/warehouse.duckdb}}}
model_defaults: {dialect: duckdb}
""",
    "seeds/s.csv": "id\n1\n",
    "models/seed.sql": "MODEL (name shop.seed, kind SEED (path '../seeds/s.csv'));",
    **{
        f"models/{name}.sql": f"MODEL (name shop.{name}, kind {kind}, {rest});\n{query}"
        for name, (kind, rest, query) in {
            "daily": ("FULL", "start '2026-10-01'", "SELECT 1 AS x"),
            "ended": ("FULL", "start '2026-10-01', end '2026-10-03'", "SELECT 1 AS x"),
            "seen": ("VIEW", "start '2026-10-01', end '2026-10-03'", "SELECT * FROM shop.ended"),
            "ending": (
                BY_DAY,
                "start '2026-10-01', end '2026-10-09'",
                "SELECT @start_date AS day",
            ),
            "noon": (
                BY_DAY,
                "start '2026-10-01', end '2026-10-07 12:00:00', cron '@hourly'",
                "SELECT @start_date AS day",
            ),
            "moving": (
                BY_DAY,
                "start '2026-10-01', end '1 week ago'",
                "SELECT @start_date AS day",
            ),
            "future": (BY_DAY, "start '2099-01-01'", "SELECT @start_date AS day"),
            "reader": (BY_DAY, "cron '@hourly'", "SELECT day FROM shop.future"),
            # Of two that it reads, one has started; so it has.
            "mixed": ("FULL", "depends_on (shop.future, shop.daily)", "SELECT x FROM shop.daily"),
        }.items()
    },
}
REASONS = {
    "shop.seed": "up to date",
    "shop.ended": "up to date; evaluates nothing after 2026-10-03",
    "shop.seen": "up to date; evaluates nothing after 2026-10-03",
    "shop.noon": "up to date; evaluates nothing after 2026-10-07 12:00 UTC",
    "shop.future": "starts on 2099-01-01; next interval at 2099-01-02 00:00 UTC",
    "shop.reader": "starts on 2099-01-01; next interval at 2099-01-01 01:00 UTC",
}
"""Those that are the same for months."""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    for path, text in FILES.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text.replace("FOLDER", str(folder)))
    # Without that, SQLMesh makes no table of a model that starts later, and fails for want of it.
    projects.plan(folder, PLANNED_AT, skip_backfill=True)
    projects.with_context(
        folder, lambda context: context.run(end=PLANNED_AT, execution_time=PLANNED_AT)
    )
    return folder


@pytest.fixture
def automation(project: Path, instance: dg.DagsterInstance) -> Automation:
    return Automation.of(project, instance)


def reasons(automation: Automation, at: datetime) -> dict[str, str]:
    return {d.name: d.reason for d in automation.tick(at).plan.decisions.values()}


def test_what_has_ended_or_not_begun_is_said_to_have(automation: Automation) -> None:
    before = reasons(automation, MIDNIGHT - MINUTE)
    tomorrow = "up to date; next interval at 2026-10-09 00:00 UTC"
    running = dict.fromkeys(["shop.daily", "shop.ending", "shop.moving", "shop.mixed"], tomorrow)
    assert before == {**REASONS, **running}

    # The last day of one is over at midnight two days later.
    for day in range(3):
        tick, run = automation.tick_and_run(MIDNIGHT + day * DAY)
        ending = {"shop/ending"} if day < 2 else set()
        assert tick.requested == {"shop/daily", "shop/moving", "shop/mixed", *ending}
        assert run is not None
        assert run.success
    after = reasons(automation, MIDNIGHT + 2 * DAY)
    assert after["shop.ending"] == "up to date; evaluates nothing after 2026-10-09"
    assert after.items() >= REASONS.items()


def test_nothing_is_due_of_them_however_long_one_waits(automation: Automation) -> None:
    for days in (1, 30, 400):
        tick = automation.tick(MIDNIGHT + days * DAY)
        due = {decision.name: decision.due for decision in tick.plan.due}
        assert not due.keys() & REASONS.keys()
        ending = due["shop.ending"]
        assert ending is not None
        assert ending.intervals == ((MIDNIGHT - DAY, MIDNIGHT + DAY),)
    first = datetime(2099, 1, 2, tzinfo=UTC)
    assert "shop.future" not in {d.name for d in automation.tick(first - MINUTE).plan.due}
    assert "shop.future" in {d.name for d in automation.tick(first).plan.due}


def test_no_tick_waits_for_them(automation: Automation) -> None:
    assert automation.tick(MIDNIGHT - MINUTE).skip_message == (
        "0 of 10 models due; next: shop.daily at 2026-10-09 00:00 UTC"
    )
    assert set(automation.tick(MIDNIGHT - MINUTE).plan.state.next_cron) >= {
        '"warehouse"."shop"."daily"'
    }


def called(project: Path, *arguments: str) -> str:
    at = ("--at", (MIDNIGHT - MINUTE).isoformat())
    result = CliRunner().invoke(main, [*arguments, *at, "--project", str(project)])
    assert result.exit_code == 0, result.output
    return result.output


def test_the_command_line_says_it_too(project: Path, tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv(
        "SQLMESH_AUTOMATION_MODELS", json.dumps({"shop.*": {"schedule": "0 6 * * *"}})
    )
    status = json.loads(called(project, "status", "--json").splitlines()[-1])
    said = {model["model"]: model["reason"] for model in status["models"]}
    assert said.items() >= REASONS.items()

    text = called(project, "explain", "shop.ended")
    assert "evaluates nothing after 2026-10-03" in text
    assert text.rstrip().endswith("Next\n  nothing")
    facts = json.loads(called(project, "explain", "shop.ended", "--json").splitlines()[-1])
    assert (facts["starts"], facts["ended"]) == (None, "2026-10-04T00:00:00+00:00")
    assert set(facts["next"].values()) == {None}
    facts = json.loads(called(project, "explain", "shop.future", "--json").splitlines()[-1])
    assert (facts["starts"], facts["ended"]) == ("2099-01-01T00:00:00+00:00", None)
    assert facts["next"]["cron"] == "2099-01-02T00:00:00+00:00"


def test_a_run_of_what_has_ended_names_no_next_interval(automation: Automation) -> None:
    names = ["shop/ended", "shop/seed", "shop/daily", "shop/future"]
    run = automation.run(names, MIDNIGHT - MINUTE)
    assert run.success
    outcomes = run.by_name()
    assert {outcome.status for outcome in outcomes.values()} == {OutcomeStatus.UP_TO_DATE}
    assert {name: outcome.next_interval for name, outcome in outcomes.items()} == {
        "shop.ended": None,
        "shop.seed": None,
        "shop.daily": MIDNIGHT,
        "shop.future": datetime(2099, 1, 2, tzinfo=UTC),
    }


def test_only_what_goes_on_has_a_freshness_policy(automation: Automation) -> None:
    specs = automation.location.definitions.resolve_all_asset_specs()
    by_key = {spec.key.to_user_string(): spec for spec in specs}
    policies = {key for key, spec in by_key.items() if spec.freshness_policy is not None}
    assert policies == {"shop/daily", "shop/moving", "shop/mixed"}
    said = {key: str(spec.metadata["sqlmesh/freshness"]) for key, spec in by_key.items()}
    assert said["shop/ended"] == "none: SQLMesh evaluates nothing after 2026-10-03"
    assert said["shop/noon"] == "none: SQLMesh evaluates nothing after 2026-10-07 12:00 UTC"
    assert said["shop/future"] == said["shop/reader"] == "none: it starts on 2099-01-01"


@pytest.mark.parametrize(
    ("time", "moment"),
    [
        ("2026-11-01", datetime(2026, 11, 1, tzinfo=UTC)),
        ("20261101", datetime(2026, 11, 1, tzinfo=UTC)),
        ("2026-11-01 12:30:00", datetime(2026, 11, 1, 12, 30, tzinfo=UTC)),
        ("2026-11-01T12:30:00+02:00", datetime(2026, 11, 1, 10, 30, tzinfo=UTC)),
        (1_767_225_600_000, datetime(2026, 1, 1, tzinfo=UTC)),
        (date(2026, 11, 1), datetime(2026, 11, 1, tzinfo=UTC)),
        (datetime(2026, 11, 1, 2, tzinfo=UTC), datetime(2026, 11, 1, 2, tzinfo=UTC)),
        *((words, None) for words in ("1 week ago", "yesterday", "today", "in 3 days")),
        *((words, None) for words in ("36 hours ago", "now", "1 month ago", None)),
    ],
    ids=str,
)
def test_a_time_that_moves_with_the_clock_is_no_end(time: Any, moment: datetime | None) -> None:
    assert fixed(time) == moment
