"""Which runs of a code location with our executor are in one process, and which are not.

Step processes import this file without the folder of the tests' helpers, so that it imports them
where it uses them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from dagster_sqlmesh_automation import AutomationSettings, build_definitions
from dagster_sqlmesh_automation.assets.execution.executor import (
    EXECUTION_TAG,
    belongs_in_one_process,
)
from dagster_sqlmesh_automation.assets.ledger.ledger import read_history

MODEL = dg.AssetKey(["tiny", "one"])
OTHERS = (dg.AssetKey("left"), dg.AssetKey("right"))
SQL = "MODEL (name tiny.one, kind FULL, cron '@daily'); SELECT 1 AS n"
PROJECT_VARIABLE = "SQLMESH_AUTOMATION_PROJECT"
WORKER = dg.DagsterEventType.STEP_WORKER_STARTING


@dg.asset
def left() -> None: ...


@dg.asset
def right(context) -> None:  # type: ignore[no-untyped-def]
    if "fail" in context.run.tags:
        raise dg.Failure("told to")


@dg.asset_check(asset=MODEL)
def of_the_users() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


def everything() -> dg.JobDefinition:
    """All assets of the location, for processes that load it anew."""
    settings = AutomationSettings(project=Path(os.environ[PROJECT_VARIABLE]))
    mine = dg.Definitions(
        assets=[left, right],
        asset_checks=[of_the_users],
        jobs=[dg.define_asset_job("everything", selection="*")],
    )
    return dg.Definitions.merge(mine, build_definitions(settings)).resolve_job_def("everything")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from support.outcome_helpers import small_project

    return small_project(tmp_path_factory.mktemp("project") / "small", {"models/one.sql": SQL})


@pytest.fixture(autouse=True)
def variable(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PROJECT_VARIABLE, str(project))


@pytest.fixture
def home(tmp_path: Path) -> dg.DagsterInstance:
    from support.executors import dagster_home

    return dg.DagsterInstance.from_config(str(dagster_home(tmp_path / "home")))


def run(instance: dg.DagsterInstance, keys: Any, **arguments: Any) -> tuple[bool, set[str]]:
    """Whether a run succeeds, and which of its steps have processes of their own."""
    with dg.execute_job(
        dg.reconstructable(everything), instance, asset_selection=list(keys), **arguments
    ) as result:
        records = instance.get_records_for_run(result.run_id, of_type=WORKER).records
        started = {record.event_log_entry.step_key or "" for record in records}
        return result.success, started


@pytest.mark.slow
@pytest.mark.parametrize(
    ("keys", "execution", "processes"),
    [
        pytest.param(OTHERS, {}, {"left", "right"}, id="no model, as Dagster does by default"),
        pytest.param((MODEL,), {}, set(), id="a model with a user's check, in the run's process"),
        pytest.param((MODEL, *OTHERS), {}, set(), id="both on DuckDB, in the run's process"),
        pytest.param(OTHERS, {"in_process": {}}, set(), id="no model, in process as asked"),
        pytest.param(
            OTHERS,
            {"automatic": {"max_concurrent": 1}},
            {"left", "right"},
            id="no model, as many processes as asked",
        ),
        pytest.param(
            (MODEL,),
            {"multiprocess": {}},
            {"tiny__one", "tiny__one_of_the_users", "sqlmesh_prod_drift"},
            id="a model, in processes as asked",
        ),
    ],
)
def test_the_steps_of_a_run_decide_where_they_run(
    home: dg.DagsterInstance,
    keys: tuple[dg.AssetKey, ...],
    execution: Mapping[str, Any],
    processes: set[str],
) -> None:
    config = {"execution": {"config": execution}} if execution else {}
    with home as instance:
        success, started = run(instance, keys, run_config=config)
        assert success
        assert started == processes


@pytest.mark.slow
def test_on_a_server_a_run_with_both_has_processes_and_one_execution(
    home: dg.DagsterInstance, tmp_path: Path, database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from support import counting
    from support.outcome_helpers import small_project

    connection = json.dumps(database.sqlmesh)
    gateways = f"gateways: {{main: {{connection: {connection}}}}}"
    config = f"{gateways}\nmodel_defaults: {{dialect: postgres, start: 2026-10-01}}\n"
    second = SQL.replace("tiny.one", "tiny.two").replace("1 AS n", "n FROM tiny.one")
    files = {"config.yaml": config, "models/one.sql": SQL, "models/two.sql": second}
    server = small_project(tmp_path / "server", files)
    monkeypatch.setenv(PROJECT_VARIABLE, str(server))
    counted = tmp_path / "executions.log"
    monkeypatch.setenv(counting.LOG_VARIABLE, str(counted))
    paths = (str(counting.HOOK), os.environ.get("PYTHONPATH", ""))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    models = (MODEL, dg.AssetKey(["tiny", "two"]))
    with home as instance:
        success, started = run(instance, (*models, *OTHERS))
        assert success
        assert started >= {"left", "right", "tiny__one", "tiny__two"}
        assert counting.count(counted) == 1
        (only,) = instance.get_runs()
        history = read_history(instance, only.run_id, "sqlmesh_prod")
        assert {outcome.name for outcome in history.outcomes.values()} == {"tiny.one", "tiny.two"}
        for key in models:
            assert instance.get_latest_materialization_event(key) is not None


@pytest.mark.slow
def test_a_run_that_is_executed_again_is_decided_by_the_steps_that_are_left(
    home: dg.DagsterInstance,
) -> None:
    with home as instance:
        job = dg.reconstructable(everything)
        keys = [MODEL, *OTHERS]
        with dg.execute_job(
            job, instance, asset_selection=keys, tags={"fail": "yes"}, raise_on_error=False
        ) as first:
            assert not first.success
        options = dg.ReexecutionOptions.from_failure(first.run_id, instance)
        with dg.execute_job(job, instance, reexecution_options=options) as again:
            assert again.success
            records = instance.get_records_for_run(again.run_id, of_type=WORKER).records
            assert [record.event_log_entry.step_key for record in records] == ["right"]


def test_a_run_without_models_needs_an_instance_that_processes_share(
    instance: dg.DagsterInstance,
) -> None:
    success, started = run(instance, OTHERS)
    assert not success
    assert not started
    (failed,) = instance.get_runs()
    log = [str(entry.dagster_event) for entry in instance.all_logs(failed.run_id)]
    assert any("DagsterUnmetExecutorRequirementsError" in line for line in log)


class Step:
    """A step as the executor looks at it."""

    def __init__(self, engine: str | None = None, *, checks: bool = False) -> None:
        self.tags = {EXECUTION_TAG: engine} if engine is not None else {}
        properties = type("Properties", (), {"asset_check_key": MODEL if checks else None})
        self.step_outputs = [type("Output", (), {"properties": properties})]


@pytest.mark.parametrize(
    ("steps", "one_process"),
    [
        pytest.param([Step("postgres"), Step("postgres")], True, id="models"),
        pytest.param([Step("postgres"), Step(checks=True)], True, id="a model and a check"),
        pytest.param([Step("postgres"), Step()], False, id="a model and an asset"),
        pytest.param([Step("duckdb"), Step()], True, id="the same on DuckDB"),
        pytest.param([Step("duckdb"), Step("postgres"), Step()], True, id="of two environments"),
        pytest.param([Step(), Step(checks=True)], False, id="an asset and its check"),
        pytest.param([Step(checks=True)], False, id="a check alone"),
    ],
)
def test_what_belongs_in_one_process(steps: list[Step], one_process: bool) -> None:
    assert belongs_in_one_process(steps) is one_process
