"""External models with audits: checks on their assets, and what reads them waits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from support import projects
from support.outcome_helpers import NEXT_DAY, RAW_DAYS, intervals, small_project, sql
from support.ticks import Automation, Run

from dagster_sqlmesh_automation.assets.dagster_internals import AssetCheckExecutionRecord
from dagster_sqlmesh_automation.assets.naming import ENVIRONMENT_CHECK
from dagster_sqlmesh_automation.automation.cli.explaining import explain
from dagster_sqlmesh_automation.automation.cli.statuses import selected, status_json

T = dg.DagsterEventType

EXTERNAL = """
- name: raw.days
  columns: {day: date, state: text}
  audits:
  - name: not_null
    columns: "[day]"
  - name: known_state
    blocking: "false"
"""
FILES = {
    "external_models.yaml": EXTERNAL,
    "audits/known_state.sql": """
AUDIT (name known_state); SELECT * FROM @this_model WHERE state <> ''
""",
    "models/daily.sql": """
MODEL (name shop.daily, kind INCREMENTAL_BY_TIME_RANGE (time_column day), cron '@daily');
SELECT day, state FROM raw.days WHERE day BETWEEN @start_date AND @end_date
""",
    "models/total.sql": """
MODEL (name shop.total, kind FULL, cron '@daily'); SELECT COUNT(*) AS n FROM shop.daily
""",
    "models/other.sql": """
MODEL (name shop.other, kind FULL, cron '@daily'); SELECT 1 AS n
""",
}
DAYS = dg.AssetKey(["raw", "days"])
NO_DAY, NO_STATE = "INSERT INTO raw.days VALUES (NULL, '')", "UPDATE raw.days SET state = 'x'"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return small_project(tmp_path / "shop", FILES, raw=[RAW_DAYS])


@pytest.fixture
def automation(project: Path, instance: dg.DagsterInstance) -> Automation:
    return Automation.of(project, instance)


def names(automation: Automation) -> tuple[dg.AssetCheckKey, dg.AssetCheckKey]:
    """The checks of the blocking audit and of the other one."""
    (keys,) = automation.location.index.checks.values()
    known = dg.AssetCheckKey(DAYS, "known_state")
    (not_null,) = (key for key in keys if key != known)
    return not_null, known


def results(run: Run) -> dict[str, str]:
    """The results of a run's checks, by the name of the audit."""
    return {
        name.partition("__")[0]: "passed" if check.passed else check.severity.value
        for (_, name), check in run.checks().items()
    }


def latest(instance: dg.DagsterInstance, key: dg.AssetCheckKey) -> AssetCheckExecutionRecord | None:
    storage = instance.event_log_storage
    return storage.get_latest_asset_check_execution_by_key([key]).get(key)


def test_audits_of_an_external_model_are_checks_of_its_asset(
    automation: Automation, executions: Callable[[], int]
) -> None:
    not_null, known = names(automation)
    graph = automation.repository.asset_graph
    assert graph.get(not_null).blocking
    assert not graph.get(known).blocking
    sql(automation.project, NO_STATE)

    tick, run = automation.tick_and_run(NEXT_DAY)

    (request,) = tick.run_requests
    assert set(request.asset_check_keys or ()) == {not_null, known}
    assert run is not None
    assert run.success
    assert executions() == 1
    assert results(run) == {"not_null": "passed", "known_state": "WARN"}
    assert set(run.materialized()) == {"shop/daily", "shop/total", "shop/other"}
    assert automation.instance.get_latest_materialization_event(DAYS) is None
    assert intervals(automation.project)["raw.days"][-1][1] == "2026-10-15T00:00:00+00:00"
    assert automation.tick(NEXT_DAY + timedelta(hours=1)).run_requests == []


def test_what_reads_it_is_held_with_the_audit_named_and_tried_with_the_usual_delays(
    automation: Automation, executions: Callable[[], int]
) -> None:
    not_null, _ = names(automation)
    sql(automation.project, NO_DAY)

    _, run = automation.tick_and_run(NEXT_DAY)

    assert run is not None
    assert not run.success
    assert results(run) == {"not_null": "ERROR", "known_state": "passed"}
    assert set(run.materialized()) == {"shop/other"}
    assert run.steps(T.STEP_START) == {
        "shop__other",
        automation.location.index.op_names['"small"."raw"."days"'],
    }
    described = run.failure(automation.location.index.op_names['"small"."raw"."days"'])
    assert described.user_failure_data.description == (
        f"raw.days: blocking audit failed: {not_null.name} (1 rows)"
    )

    runs = {}
    for minute in range(1, 180):
        at = NEXT_DAY + timedelta(minutes=minute)
        tick, again = automation.tick_and_run(at)
        if again is not None:
            runs[minute] = again
            assert tick.requested == {"shop/daily", "shop/total"}
    assert list(runs) == [10, 30]
    assert executions() == 3
    held = {decision.name: decision.held for decision in tick.plan.due}
    reason = (
        f"audit {not_null.name} failed in run {runs[30].run_id}, attempt 3 of 3; "
        "tried again at its next cron tick, 2026-10-16 00:00 UTC"
    )
    upstream = f"upstream raw.days is held: {reason}"
    assert held == {"raw.days": reason, "shop.daily": upstream, "shop.total": upstream}

    sql(automation.project, "DELETE FROM raw.days WHERE day IS NULL")
    _, run = automation.tick_and_run(NEXT_DAY + timedelta(days=1))
    assert run is not None
    assert run.success
    assert results(run) == {"not_null": "passed", "known_state": "passed"}
    assert projects_agree(automation.project)


def projects_agree(project: Path) -> bool:
    """Whether SQLMesh itself finds nothing more to do."""
    at = NEXT_DAY + timedelta(days=1)
    before = intervals(project)
    projects.with_context(project, lambda context: context.run(end=at, execution_time=at))
    return intervals(project) == before


def test_audits_that_a_person_s_run_draws_in_are_reported_without_a_step(
    automation: Automation,
) -> None:
    not_null, known = names(automation)
    run = automation.run(["shop/daily"], NEXT_DAY)
    assert run.success
    assert run.checks() == {}
    for key in (not_null, known):
        record = latest(automation.instance, key)
        assert record is not None
        assert record.evaluation is not None
        assert record.evaluation.passed
        assert record.evaluation.metadata["sqlmesh/run_id"].value == run.run_id
    assert automation.instance.get_latest_materialization_event(DAYS) is None

    sql(automation.project, NO_DAY)
    run = automation.run(["shop/daily"], NEXT_DAY + timedelta(days=1))
    assert not run.success
    assert run.failure("shop__daily").user_failure_data.description == (
        "shop.daily was skipped by SQLMesh: upstream raw.days failed"
    )
    record = latest(automation.instance, not_null)
    assert record is not None
    assert record.evaluation is not None
    assert not record.evaluation.passed


def test_checks_of_what_the_environment_holds(project: Path, instance: dg.DagsterInstance) -> None:
    (project / "external_models.yaml").unlink()
    automation = Automation.of(project, instance, source="environment")
    (keys,) = automation.location.index.checks.values()
    assert len(keys) == 2


def test_a_person_runs_the_checks_alone(automation: Automation) -> None:
    not_null, known = names(automation)
    tags = {"sqlmesh/execution_time": NEXT_DAY.isoformat()}
    run = automation.execute(set(), tags, [not_null, known])
    assert run.success
    assert results(run) == {"not_null": "passed", "known_state": "passed"}
    assert set(run.by_name()) == {"raw.days"}


def test_the_command_line_tells_of_it(automation: Automation) -> None:
    explanation = explain(automation.location, automation.instance, "raw.days", NEXT_DAY)
    assert explanation.decision.requested
    assert [verdict.label for verdict in explanation.verdicts][1] == "a reader is requested"
    reader = explain(automation.location, automation.instance, "shop.daily", NEXT_DAY)
    assert reader.upstream == {
        "raw.days": "requested, due: 2026-10-14 00:00 to 2026-10-15 00:00 UTC"
    }
    plan = automation.location.planner.plan(automation.instance, NEXT_DAY)
    shown = selected(automation.location, [])
    models = status_json(automation.location, plan, shown)["models"]
    assert [model["model"] for model in models] == [
        "raw.days",
        *(model.name for model in automation.location.manifest.executed),
    ]


# A table that an asset of the user's makes


def with_ingestion(automation: Automation) -> dg.Definitions:
    """The definitions beside a user's asset of the external model's key, with its own check."""

    @dg.asset(key=DAYS, check_specs=[dg.AssetCheckSpec("known_state", asset=DAYS)])
    def ingested():  # type: ignore[no-untyped-def]
        return dg.MaterializeResult(
            check_results=[dg.AssetCheckResult(passed=True, check_name="known_state")]
        )

    return dg.Definitions.merge(dg.Definitions(assets=[ingested]), automation.location.definitions)


def execute(definitions: dg.Definitions, instance: dg.DagsterInstance, **selected: Any) -> Any:
    job = definitions.resolve_implicit_global_asset_job_def().get_subset(**selected)
    return job.execute_in_process(
        instance=instance,
        raise_on_error=False,
        tags={"sqlmesh/execution_time": NEXT_DAY.isoformat()},
    )


def test_checks_of_a_table_that_a_user_s_asset_makes(
    project: Path, instance: dg.DagsterInstance
) -> None:
    automation = Automation.of(project, instance, external_asset_key="{schema}/{name}")
    (checks,) = automation.location.index.checks.values()
    assert {key.asset_key for key in checks} == {DAYS}
    assert {key.name.partition("__")[0] for key in checks} == {"raw_days"}
    definitions = with_ingestion(automation)
    ours: Mapping[str, Any] = {
        "asset_selection": {DAYS, dg.AssetKey(["shop", "daily"])},
        "asset_check_selection": {*checks, dg.AssetCheckKey(DAYS, "known_state")},
    }
    result = execute(definitions, instance, **ours)
    assert result.success
    order = [event.step_key for event in result.all_events if event.is_step_success]
    external = automation.location.index.op_names['"small"."raw"."days"']
    assert order.index("raw__days") < order.index(external) < order.index("shop__daily")
    of_daily = dg.AssetCheckKey(dg.AssetKey(["shop", "daily"]), ENVIRONMENT_CHECK)
    told = {each.asset_check_key for each in result.get_asset_check_evaluations()}
    assert told == {*ours["asset_check_selection"], of_daily}


def test_a_run_that_makes_the_table_holds_nothing_that_reads_it(
    project: Path, instance: dg.DagsterInstance
) -> None:
    automation = Automation.of(project, instance, external_asset_key="{schema}/{name}")
    job = with_ingestion(automation).resolve_implicit_global_asset_job_def()
    theirs = {dg.AssetCheckKey(DAYS, "known_state")}
    ingestion = job.get_subset(asset_selection={DAYS}, asset_check_selection=theirs)
    instance.create_run_for_job(ingestion, status=dg.DagsterRunStatus.STARTED)
    tick = automation.tick(NEXT_DAY)
    assert tick.requested == {"shop/daily", "shop/total", "shop/other"}
    (request,) = tick.run_requests
    assert {key.asset_key for key in request.asset_check_keys or ()} == {DAYS}
