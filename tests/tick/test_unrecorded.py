"""Models that a run has evaluated and that SQLMesh holds due nevertheless, with real SQLMesh."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest
from support import projects
from support.decisions import INTERVAL, Row, check, due, failed, moment
from support.outcome_helpers import NEXT_DAY, RAW_DAYS, small_project
from support.ticks import Automation

from dagster_sqlmesh_automation.automation.cli.findings import Examined
from dagster_sqlmesh_automation.automation.cli.records import unrecorded
from dagster_sqlmesh_automation.automation.facts.facts import Due

PARENT = """
MODEL (name shop.parent, kind INCREMENTAL_BY_TIME_RANGE (time_column day), cron '@daily');
SELECT day, state FROM raw.days WHERE day BETWEEN @start_date AND @end_date
"""
CHILDREN = {
    "models/child.sql": """
MODEL (name shop.child, kind INCREMENTAL_BY_TIME_RANGE (time_column day), cron '@daily');
SELECT day, state FROM shop.parent WHERE day BETWEEN @start_date AND @end_date
""",
    "models/whole.sql": """
MODEL (name shop.whole, kind FULL, cron '@daily'); SELECT COUNT(*) AS n FROM shop.child
""",
    "models/seen.sql": """
MODEL (name shop.seen, kind VIEW, cron '@daily'); SELECT COUNT(*) AS n FROM shop.child
""",
    "audits/no_state.sql": """
AUDIT (name no_state, standalone true, cron '@daily'); SELECT * FROM shop.child WHERE state = 'x'
""",
}
UNRECORDED = {"shop.child", "shop.whole", "shop.seen", "no_state"}


@pytest.fixture
def automation(tmp_path: Path, instance: dg.DagsterInstance) -> Automation:
    """Environment ``dev``, where a column is added to what all others read."""
    project = small_project(
        tmp_path / "shop", {"models/parent.sql": PARENT, **CHILDREN}, raw=[RAW_DAYS]
    )
    changed = PARENT.replace("SELECT day, state", "SELECT day, state, 1 AS added")
    (project / "models" / "parent.sql").write_text(changed)
    projects.plan(project, projects.PLANNED_AT, "dev")
    return Automation.of(project, instance, environment="dev")


def test_what_sqlmesh_never_records_is_evaluated_once_for_each_cron_tick(
    automation: Automation, executions: Callable[[], int]
) -> None:
    """SQLMesh's #5793: indirect non-breaking changes in an environment for development."""
    for day in range(2):
        midnight = NEXT_DAY + timedelta(days=day)
        following = midnight + timedelta(days=1)
        tick, run = automation.tick_and_run(midnight)
        assert {decision.name for decision in tick.plan.requested} == {"shop.parent", *UNRECORDED}
        assert run is not None
        assert run.success

        for later in (timedelta(seconds=30), timedelta(minutes=30), timedelta(hours=23)):
            tick = automation.tick(midnight + later)
            assert tick.run_requests == []
            assert {decision.name for decision in tick.plan.due} == UNRECORDED
            assert {decision.held for decision in tick.plan.due} == {
                f"evaluated in run {run.run_id}, and SQLMesh did not record it; "
                f"tried again at its next cron tick, {following:%Y-%m-%d} 00:00 UTC"
            }
            assert {decision.held_by for decision in tick.plan.due} == {"unrecorded"}
        assert executions() == day + 1

        examined = Examined(automation.location, automation.instance, tick.plan, 0.1)
        (finding,) = unrecorded(examined)
        assert finding.level == "advice"
        assert finding.text == (
            "4 models evaluated without SQLMesh recording it: "
            "no_state, shop.child, shop.seen, shop.whole"
        )
        assert "#5793" in finding.cure


# As a table

EVALUATED = failed(moment("06:00"), why="evaluated", tried=False, evaluated=(INTERVAL,))
TWICE = failed(
    moment("06:00"), moment("06:10"), why="evaluated", tried=False, evaluated=(INTERVAL,)
)
EARLIER = (INTERVAL[0] - timedelta(hours=1), INTERVAL[0])
OLDER = (EARLIER[0] - timedelta(hours=1), EARLIER[0])
PARTS = [
    replace(attempt, evaluated=(part,))
    for attempt, part in zip(TWICE, (EARLIER, OLDER), strict=True)
]
BOTH = {"daily": Due((EARLIER, INTERVAL), since=INTERVAL[0])}
HELD = (
    "evaluated in run run-1, and SQLMesh did not record it; "
    "tried again at its next cron tick, 2026-11-25 00:00 UTC"
)

ROWS = [
    Row(
        "what is evaluated and not recorded is held, and does not hold what reads it",
        due("daily", "report"),
        {"report"},
        {"daily": HELD},
        failures={"daily": EVALUATED},
        at=moment("06:00:30"),
    ),
    Row(
        "until its next cron tick",
        due("daily"),
        {"daily"},
        failures={"daily": EVALUATED},
        at=moment("2026-11-25 00:00"),
    ),
    Row(
        "a new plan frees it",
        due("daily"),
        {"daily"},
        failures={"daily": EVALUATED},
        planned_at=moment("06:00:10"),
        at=moment("06:00:30"),
    ),
    Row(
        "so does a restatement, which makes it due anew",
        due("daily", since=moment("06:00:10")),
        {"daily"},
        failures={"daily": EVALUATED},
        at=moment("06:00:30"),
    ),
    Row(
        "one that is due for more than that is requested at once",
        BOTH,
        {"daily"},
        failures={"daily": EVALUATED},
        at=moment("06:00:30"),
    ),
    Row(
        "and then as one that is not tried",
        BOTH,
        set(),
        {"daily": "evaluated in run run-2; tried again at 2026-11-24 06:11 UTC"},
        failures={"daily": TWICE},
        at=moment("06:10:30"),
    ),
    Row(
        "a run that has ended since SQLMesh's state was read is not called unrecorded",
        due("daily", "report"),
        set(),
        {
            "daily": "run run-1 has just evaluated it",
            "report": "upstream sales.daily is held: run run-1 has just evaluated it",
        },
        failures={"daily": EVALUATED},
        at=moment("05:59:59"),
    ),
    Row(
        "a model that allows partial intervals is requested at every tick",
        {"daily": Due((INTERVAL,))},
        {"daily"},
        failures={"daily": TWICE},
        at=moment("06:10:30"),
    ),
    Row(
        "what repeats a lookback is recorded, and held by that",
        {"daily": Due((INTERVAL,), "signal ready holds it", True, since=INTERVAL[1])},
        set(),
        {"daily": "only its lookback is ready: signal ready holds it"},
        failures={"daily": TWICE},
        at=moment("06:10:30"),
    ),
    Row(
        "one that evaluates one thing after the other goes on at once",
        due("daily"),
        {"daily"},
        failures={"daily": failed(moment("06:10"), why="evaluated", evaluated=(EARLIER,))},
        at=moment("06:10:30"),
    ),
    Row(
        "and then a minute after each run",
        due("daily"),
        set(),
        {"daily": "run run-2 evaluated a part; goes on at 2026-11-24 06:11 UTC"},
        failures={"daily": PARTS},
        at=moment("06:10:30"),
    ),
    Row(
        "of which each makes an end to the failures before",
        due("daily"),
        {"daily"},
        failures={"daily": [*PARTS[:1], *failed(*[moment("06:05")] * 3)]},
        at=moment("06:11:00"),
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_decisions(row: Row) -> None:
    check(row)
