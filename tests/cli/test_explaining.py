"""``explain`` and ``status``: why a model is requested or held, and what is set for it."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from support import projects
from support.schema import TICK, invoke, tick_json
from support.ticks import Automation

from dagster_sqlmesh_automation.assets.project.manifest import ManifestModel
from dagster_sqlmesh_automation.automation.cli.explaining import Explanation, explain, find_model
from dagster_sqlmesh_automation.automation.definitions import Location
from dagster_sqlmesh_automation.config.errors import ModelNotEvaluated, ModelUnknown
from dagster_sqlmesh_automation.config.settings import AutomationSettings

NEXT_HOUR = "2026-10-14T01:00"
NEXT_DAY = datetime(2026, 10, 15, tzinfo=UTC)
SEGMENTS, AUDIENCE = "marketing.customer_segments", "marketing.campaign_audience"
RULES = {
    "SQLMESH_AUTOMATION_TIMEZONE": "Europe/Berlin",
    "SQLMESH_AUTOMATION_CRON_MAP": '{"@daily": "0 23 * * * UTC", "@monthly": "off"}',
    "SQLMESH_AUTOMATION_MODELS": '{"finance.*": {"paused": true}}',
}


@pytest.fixture(scope="module")
def project(planned_example: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the example that nothing changes: what is tested only reads it."""
    copy = tmp_path_factory.mktemp("explained") / "jaffle_shop"
    return Path(shutil.copytree(planned_example, copy))


@pytest.fixture(scope="module")
def location(project: Path) -> Location:
    return Location(AutomationSettings(project=project))


def shown(project: Path, model: str, at: str, **variables: str) -> list[str]:
    """What ``explain`` prints."""
    result = invoke("explain", model, "--project", project, "--at", at, **variables)
    assert result.exit_code == 0, result.output
    return [line.rstrip() for line in result.stdout.splitlines()]


def explained(automation: Automation, model: str, at: datetime) -> Explanation:
    return explain(automation.location, automation.instance, model, at)


def test_a_model_that_is_requested_is_explained_part_by_part(project: Path) -> None:
    lines = shown(project, "sales.orders", NEXT_HOUR)
    hour = "2026-10-14 00:00 to 2026-10-14 01:00 UTC"

    assert lines[:2] == [
        "sales.orders",
        "  INCREMENTAL_BY_TIME_RANGE, asset sales/orders, cron @hourly UTC",
    ]
    assert lines[2].startswith("  environment prod at 2026-10-14 01:00 UTC, plan ")
    assert lines[3:] == [
        "Requested",
        f"  due: {hour}",
        f"  yes due in SQLMesh (@hourly): due: {hour}",
        "  yes schedule open (whenever it is due)",
        "  yes not in progress",
        "  yes upstream ready",
        "  yes retry allowed",
        "  yes within limits",
        "Intervals",
        f"  due: {hour}, since 2026-10-14 01:00 UTC",
        f"  recorded by SQLMesh: 2026-10-01 00:00 to 2026-10-14 00:00 UTC ({snapshot(project)})",
        "  2026-09-17 ······· ······· ███████ ██████░ 2026-10-14 "
        "(█ recorded, ░ missing, · not due; UTC days)",
        f"  missing: {hour}",
        "Policy",
        "  schedule: whenever it is due (default)",
        "  paused: false (default)",
        "  retry.max_attempts: 3 (default)",
        "  retry.delay_seconds: 600 (default)",
        "  retry.max_delay_seconds: 3600 (default)",
        "  min_gap_seconds: 0 (default)",
        "  max_seconds: none (default)",
        "  upstream: wait (default)",
        "  priority: none (default)",
        "  group: the translator's (default)",
        "Upstream",
        "  core.order_totals: embedded in what reads it",
        f"  staging.orders: requested, due: {hour}",
        "Last runs",
        "  none",
        "Next",
        "  cron elapses: 2026-10-14 02:00 UTC",
    ]


def snapshot(project: Path) -> str:
    """What SQLMesh itself calls the snapshot of ``sales.orders``."""

    def read(context: Any) -> str:
        state = context.state_sync
        snapshots = state.get_snapshots(state.get_environment("prod").snapshots).values()
        return next(s.identifier for s in snapshots if s.name.endswith('"sales"."orders"'))

    return str(projects.with_context(project, read))


def test_a_model_that_its_schedule_holds_is_explained_in_the_zone_of_the_settings(
    project: Path,
) -> None:
    lines = shown(project, "sales/daily_revenue", "2026-10-15T01:00", **RULES)
    fires = "its schedule 0 23 * * * UTC fires at 2026-10-16 01:00 CEST"

    assert lines[3:5] == ["Not requested", f"  held: {fires}"]
    assert "  yes due in SQLMesh (@daily)" in lines
    assert f"  no  schedule open (0 23 * * * UTC): {fires}" in lines
    assert f"  no  upstream ready: upstream staging.products is held: {fires}" in lines
    assert "   -  within limits" in lines
    assert "  schedule: 0 23 * * * UTC (CRON_MAP @daily)" in lines
    assert lines[-4:] == [
        "Next",
        "  cron elapses: 2026-10-16 02:00 CEST",
        "  schedule fires: 2026-10-16 01:00 CEST",
        "  schedule fires after that cron tick: 2026-10-17 01:00 CEST",
    ]


def test_a_model_that_is_not_due_is_asked_for_nothing_else(project: Path) -> None:
    lines = shown(project, "sales.weekly_summary", NEXT_HOUR)
    up_to_date = "up to date; next interval at 2026-10-18 00:00 UTC"

    assert f"  no  due in SQLMesh (@weekly): {up_to_date}" in lines
    assert sum(line.startswith("   -  ") for line in lines) == 5
    assert "  due: none" in lines


def test_a_plan_that_is_being_applied_holds_every_model_everywhere(example: Path) -> None:
    plan = projects.begin_plan(example)
    held = f"held: plan {plan} is being applied"

    for document in (
        tick_json(example, "--at", NEXT_HOUR),
        tick_json(example, "--dry-run", "--at", NEXT_HOUR),
        json.loads(invoke("status", "--json", "--project", example, "--at", NEXT_HOUR).stdout),
    ):
        reasons = {(model["requested"], model["reason"]) for model in document["models"]}
        assert reasons == {(False, held)}
        assert (document["run_id"], document["executions"]) == (None, 0)
    for model in ("sales.orders", SEGMENTS):  # due, and not
        lines = shown(example, model, NEXT_HOUR)
        assert lines[3:5] == ["Not requested", f"  {held}"]
        assert lines[5].startswith("  no  due in SQLMesh (")
        assert lines[5].endswith(f"): plan {plan} is being applied")
    table = invoke("status", "--project", example, "--at", NEXT_HOUR).stdout
    assert table.count(held) == 19
    assert "requested:" not in table


def test_a_paused_model_has_no_next_tick_of_a_schedule(project: Path) -> None:
    lines = shown(project, "finance.reconciliation", "2026-10-15T01:00", **RULES)
    assert "  no  schedule open (off): paused by MODELS finance.*" in lines
    assert "  paused: true (MODELS finance.*)" in lines
    assert lines[-2:] == ["Next", "  cron elapses: 2026-10-16 02:00 CEST"]


def test_a_standalone_audit_is_explained_too(project: Path) -> None:
    lines = shown(project, "assert_every_order_has_payment", NEXT_HOUR)
    assert lines[1] == "  standalone audit, cron @daily UTC"
    assert [line for line in lines if line.startswith("  staging.")] == [
        "  staging.orders: requested, due: 2026-10-14 00:00 to 2026-10-14 01:00 UTC",
        "  staging.payments: requested, due: 2026-10-14 00:00 to 2026-10-14 01:00 UTC",
    ]


def test_failed_attempts_are_counted_and_the_next_is_told(
    automation: Automation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAFFLE_SHOP_FAIL", "1")
    runs = [
        automation.tick_and_run(at)[1]
        for at in (NEXT_DAY, NEXT_DAY + timedelta(minutes=10), NEXT_DAY + timedelta(minutes=30))
    ]
    assert all(runs)
    first, second, third = (run.run_id for run in runs if run)

    explanation = explained(automation, SEGMENTS, NEXT_DAY + timedelta(minutes=7))
    at = NEXT_DAY + timedelta(minutes=20)
    assert explanation.attempts[first] == 1
    explanation = explained(automation, SEGMENTS, at)
    assert [run.run_id for run in explanation.runs] == [third, second, first]
    assert [run.at for run in explanation.runs][-1] == NEXT_DAY
    assert explanation.attempts == {first: 1, second: 2, third: 3}
    assert all(run.text.startswith("failed: ") for run in explanation.runs)
    assert explanation.next.retry == datetime(2026, 10, 16, tzinfo=UTC)
    (no,) = (v for v in explanation.verdicts if v.holds is False)
    assert no.label == "retry allowed"
    assert f"failed in run {third}, attempt 3 of 3" in no.reason

    reader = explained(automation, AUDIENCE, at)
    assert reader.runs[0].text == f"skipped: upstream {SEGMENTS} failed"
    assert reader.attempts == {}
    assert "attempt 3 of 3; tried again at its next cron tick" in reader.upstream[SEGMENTS]
    audit = explained(automation, "assert_every_order_has_payment", at)
    assert [run.run_id for run in audit.runs] == [first]
    assert audit.runs[0].text.startswith("executed: 1 interval")


def test_a_retry_that_waits_is_told_with_its_moment(
    automation: Automation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAFFLE_SHOP_FAIL", "1")
    automation.tick_and_run(NEXT_DAY)
    explanation = explained(automation, SEGMENTS, NEXT_DAY + timedelta(minutes=1))
    assert explanation.next.retry == NEXT_DAY + timedelta(minutes=10)
    assert "attempt 2 of 3 at 2026-10-15 00:10 UTC" in explanation.decision.reason


def test_the_tree_is_the_one_that_dagster_shows(
    location: Location, instance: dg.DagsterInstance
) -> None:
    graph = location.definitions.get_repository_def().asset_graph
    for model in location.manifest.executed:
        condition = graph.get(location.index.keys[model.fqn]).automation_condition
        assert condition is not None
        explanation = explain(location, instance, model.name, NEXT_DAY)
        assert [v.label for v in explanation.verdicts] == [c.name for c in condition.children]
        assert explanation.decision.requested == all(v.holds for v in explanation.verdicts)


@pytest.mark.parametrize(
    "text",
    [
        "sales.orders",
        "Sales.Orders",
        "sales/orders",
        '"jaffle_shop"."sales"."orders"',
        "jaffle_shop.sales.orders",
        " SALES/ORDERS ",
    ],
)
def test_a_model_is_found_by_any_of_its_names(location: Location, text: str) -> None:
    model = find_model(location, text)
    assert isinstance(model, ManifestModel)
    assert model.name == "sales.orders"


def test_a_name_that_is_none_is_refused_with_the_nearest_one(location: Location) -> None:
    with pytest.raises(ModelUnknown, match=r"'Sales\.order' .* Did you mean sales\.orders\?"):
        find_model(location, "Sales.order")
    with pytest.raises(ModelUnknown) as error:
        find_model(location, "zzzz")
    assert "Did you mean" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("raw.orders", "kind EXTERNAL, which SQLMesh never evaluates.*staging.orders"),
        ("core.order_totals", "kind EMBEDDED, which SQLMesh never evaluates.*sales.orders"),
    ],
)
def test_what_sqlmesh_never_evaluates_is_refused(
    location: Location, name: str, expected: str
) -> None:
    with pytest.raises(ModelNotEvaluated, match=expected):
        find_model(location, name)


def test_a_wrong_name_ends_with_2_and_prints_nothing_else(project: Path) -> None:
    result = invoke("explain", "sales.order", "--json", "--project", project)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Did you mean sales.orders?" in result.stderr


def test_explain_prints_one_json_object_and_writes_nothing(project: Path) -> None:
    database = (project / "jaffle_shop.duckdb").read_bytes()
    result = invoke(
        "explain", "sales.orders", "--json", "--project", project, "--at", NEXT_HOUR, **RULES
    )
    assert result.stdout.count("\n") == 1
    document = json.loads(result.stdout)

    assert (project / "jaffle_shop.duckdb").read_bytes() == database
    assert document["model"] == "sales.orders"
    assert document["asset_key"] == "sales/orders"
    assert document["at"] == "2026-10-14T01:00:00+00:00"
    assert document["requested"] is True
    assert [part["holds"] for part in document["parts"]] == [True] * 6
    assert document["due"]["since"] == "2026-10-14T01:00:00+00:00"
    assert document["due"]["intervals"] == [["2026-10-14T00:00:00+00:00", document["due"]["since"]]]
    assert document["recorded"]["intervals"][-1][1] == "2026-10-14T00:00:00+00:00"
    assert document["policy"]["upstream"] == {"value": "wait", "from": "default"}
    assert document["next"]["cron"] == "2026-10-14T02:00:00+00:00"
    assert document["runs"] == []


# status


def test_status_shows_what_is_set_for_each_model_and_what_misleads(project: Path) -> None:
    result = invoke("status", "--project", project, "--at", NEXT_HOUR, **RULES)
    rows = {line.split()[0]: " ".join(line.split()) for line in result.stdout.splitlines() if line}

    schedule = "schedule 0 23 * * * UTC (CRON_MAP @daily)"
    assert f"@daily {schedule} up to date; next" in rows["staging.customers"]
    assert f"{schedule}, paused true (MODELS finance.*)" in rows["finance.reconciliation"]
    assert "@hourly requested: " in rows["sales.orders"]
    warnings = [line for line in result.stdout.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 2
    assert "CRON_MAP @monthly -> off is not used: no model has this cron" in warnings[0]
    assert "CRON_MAP @daily -> 0 23 * * * UTC (10 models): it fires late" in warnings[1]


def test_status_without_rules_has_no_column_for_them(project: Path) -> None:
    result = invoke("status", "--project", project, "--at", NEXT_HOUR)
    assert "policy" not in result.stdout
    assert "warning" not in result.stdout


def test_status_prints_a_tick_in_json_with_policies_and_warnings(project: Path) -> None:
    call = ("status", "--json", "--project", project, "--at", NEXT_HOUR)
    document = json.loads(invoke(*call, **RULES).stdout)
    models = {model["model"]: model for model in document["models"]}

    assert {*document} == {*TICK["properties"], "warnings"}
    assert document["run_id"] is None
    assert len(models) == 18
    assert len(document["warnings"]) == 2
    keys = TICK["properties"]["models"]["items"]["properties"]
    facts = {"kind", "cron", "cron_tz", "schedule", "group", "next", "next_at", "policy"}
    assert all({*model} == {*keys, *facts} for model in models.values())
    assert models["sales.orders"]["policy"] == {}
    assert models["finance.reconciliation"]["policy"] == {
        "schedule": {"value": "0 23 * * * UTC", "from": "CRON_MAP @daily"},
        "paused": {"value": "true", "from": "MODELS finance.*"},
    }
    due = json.loads(invoke(*call, "--due", **RULES).stdout)["models"]
    assert [model["model"] for model in due] == [n for n, m in models.items() if m["due"]]


def test_retries_set_for_all_models_are_shown_too(project: Path) -> None:
    retry = {"SQLMESH_AUTOMATION_RETRY__MAX_ATTEMPTS": "7"}
    call = ("status", "--json", "--project", project, "--at", NEXT_HOUR)
    policy = json.loads(invoke(*call, **retry).stdout)["models"][0]["policy"]
    assert policy == {"retry.max_attempts": {"value": "7", "from": "RETRY__MAX_ATTEMPTS"}}


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("explain", "sales.orders"),
        ("explain", "sales/orders --at 2026-11-24T00:05"),
        ("status", "--due"),
        ("doctor", "--json | jq '.findings[] | select(.level != \"ok\")'"),
    ],
)
def test_help_teaches_with_examples(command: str, line: str) -> None:
    lines = [line.strip() for line in invoke(command, "--help").stdout.splitlines()]
    assert f"sqlmesh-automation {command} {line}" in lines
