"""``sqlmesh-automation status``: which models it shows, and how wide."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from rich.console import Console
from support.schema import invoke

from dagster_sqlmesh_automation.automation.cli import statuses
from dagster_sqlmesh_automation.automation.definitions import Location
from dagster_sqlmesh_automation.config.settings import AutomationSettings

AT = ("--at", "2026-10-14T01:00")
LONGEST = "marketing.campaign_audience"


def names(output: str) -> list[str]:
    return [line.split()[0] for line in output.splitlines()[1:]]


@pytest.fixture(scope="module")
def all_names(planned_example: Path) -> list[str]:
    settings = AutomationSettings(project=planned_example)
    return [node.name for node in Location(settings).manifest.decided]


@pytest.mark.parametrize("columns", ["20", "80", "400"])
def test_a_pipe_gets_one_line_for_each_model_however_wide_it_is(
    planned_example: Path, all_names: list[str], columns: str
) -> None:
    output = invoke("status", "--project", planned_example, *AT, COLUMNS=columns).stdout
    assert names(output) == all_names
    (line,) = (line for line in output.splitlines() if "customer_segments" in line)
    assert line.startswith("marketing.customer_segments ")
    assert line.endswith("up to date; next interval at 2026-10-15 00:00 UTC")


@pytest.mark.parametrize(
    ("width", "is_table"),
    [
        pytest.param(99, False, id="narrow"),
        pytest.param(119, False, id="no room for a decision beside names, kinds and crons"),
        pytest.param(140, True, id="wide"),
    ],
)
def test_a_terminal_gets_a_table_where_no_name_folds(
    planned_example: Path, all_names: list[str], width: int, is_table: bool
) -> None:
    location = Location(AutomationSettings(project=planned_example))
    with dg.DagsterInstance.ephemeral() as instance:
        plan = location.planner.plan(instance, datetime(2026, 10, 14, 1, tzinfo=UTC))
    console = Console(width=width, force_terminal=True, color_system=None, record=True)
    statuses.print_status(console, location, plan, statuses.selected(location, []))
    lines = console.export_text().splitlines()
    assert any(line.startswith("model ") for line in lines) == is_table
    assert {line.split()[0] for line in lines if line.strip()} >= set(all_names)
    if not is_table:
        assert len(lines) == len(all_names) + 1


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        pytest.param(["sales.orders"], {"sales.orders"}, id="a name"),
        pytest.param(["SALES.ORD*"], {"sales.orders"}, id="other case"),
        pytest.param(
            ["sales.o*", "reference.*"],
            {"sales.orders", "reference.payment_methods", "reference.store_regions"},
            id="several",
        ),
        pytest.param(
            ["kind:seed"], {"reference.payment_methods", "reference.store_regions"}, id="a kind"
        ),
        pytest.param(["assert_*"], {"assert_every_order_has_payment"}, id="a standalone audit"),
    ],
)
def test_patterns_are_those_of_the_setting_models(
    planned_example: Path, patterns: list[str], expected: set[str]
) -> None:
    call = ("status", *patterns, "--project", planned_example, *AT)
    assert set(names(invoke(*call).stdout)) == expected
    document = json.loads(invoke(*call, "--json").stdout)
    assert {model["model"] for model in document["models"]} == expected - {
        "assert_every_order_has_payment"
    }


def test_patterns_and_due_go_together(planned_example: Path) -> None:
    call = ("status", "s*", "--due", "--project", planned_example, "--at", "2026-10-14T00:05")
    assert names(invoke(*call).stdout) == ["staging.orders", "staging.web_events"]
    nothing = invoke("status", "kind:seed", "--due", "--project", planned_example, *AT)
    assert (nothing.exit_code, len(nothing.stdout.splitlines())) == (0, 1)


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [
        pytest.param("sales.order", "Did you mean sales.orders?", id="near"),
        pytest.param("kind:ful", "Did you mean kind:FULL?", id="a near kind"),
        pytest.param("tag:nix", "tag:<tag>", id="far"),
    ],
)
def test_a_pattern_that_matches_nothing_is_an_error(
    planned_example: Path, pattern: str, hint: str
) -> None:
    result = invoke("status", "sales.*", pattern, "--project", planned_example, *AT)
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"{pattern!r} matches no model of {planned_example}" in result.stderr
    assert hint in result.stderr


def test_json_has_what_a_model_is_and_when_it_is_next(planned_example: Path) -> None:
    rules = {
        "sales.daily_revenue": {"schedule": "0 7 * * * Europe/Berlin", "group": "finance"},
        "sales.weekly_summary": {"paused": True},
    }
    result = invoke(
        *("status", "--json", "--project", planned_example, *AT),
        SQLMESH_AUTOMATION_MODELS=json.dumps(rules),
    )
    models: dict[str, Any] = {
        model["model"]: model for model in json.loads(result.stdout)["models"]
    }

    daily = models["sales.daily_revenue"]
    assert daily["kind"] == "INCREMENTAL_BY_TIME_RANGE"
    assert (daily["cron"], daily["cron_tz"]) == ("@daily", "UTC")
    assert (daily["schedule"], daily["group"]) == ("0 7 * * * Europe/Berlin", "finance")
    assert daily["next"]["cron"] == "2026-10-15T00:00:00+00:00"
    assert daily["next_at"] == daily["next"]["request"] == "2026-10-15T05:00:00+00:00"

    store = models["sales.revenue_by_store"]
    assert (store["cron_tz"], store["schedule"]) == ("America/New_York", None)
    assert (store["group"], store["next_at"]) == ("sales", "2026-10-14T04:00:00+00:00")

    weekly = models["sales.weekly_summary"]
    assert (weekly["schedule"], weekly["next_at"]) == ("off", None)
    # A seed is evaluated when its file changes.
    assert models["reference.store_regions"]["next_at"] is None
