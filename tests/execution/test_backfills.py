"""Dagster's asset backfills, done by its backfill daemon, of models that are up to date."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._core.test_utils import create_test_daemon_workspace_context
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import PythonFileTarget
from dagster._daemon.backfill import execute_backfill_iteration
from support.executors import PATIENCE_SECONDS, dagster_home
from support.outcome_helpers import NEXT_DAY, RAW_DAYS, data_version, small_project
from support.tables import evaluated
from support.ticks import Run

MODEL = """\
MODEL (
  name tiny.{name}, kind INCREMENTAL_BY_TIME_RANGE (time_column day), cron '@daily'
);
SELECT day FROM {reads} WHERE day BETWEEN @start_ds AND @end_ds
"""
LOCATION = """\
import dagster as dg
from dagster_sqlmesh_automation import build_definitions


LAST = dg.AssetKey(["tiny", "last"])
WHOLE = dg.StaticPartitionsDefinition(["whole"])


@dg.asset(deps=[LAST], partitions_def=WHOLE)
def summary() -> None: ...


defs = dg.Definitions.merge(build_definitions(), dg.Definitions(assets=[summary]))
"""
HOME = """\
telemetry: {enabled: false}
run_launcher:
  module: dagster._core.launcher.sync_in_memory_run_launcher
  class: SyncInMemoryRunLauncher
run_coordinator:
  module: dagster._core.run_coordinator
  class: DefaultRunCoordinator
"""
"""Runs are done in the test's process as soon as they are launched."""
MODELS = ("tiny/first", "tiny/last")
SUMMARY = dg.AssetKey("summary")
TARGETS = [*(dg.AssetKey(model.split("/")) for model in MODELS), SUMMARY]


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WorkspaceProcessContext]:
    """A code location of two models and a partitioned asset that reads the second."""
    models = {
        "models/first.sql": MODEL.format(name="first", reads="raw.days"),
        "models/last.sql": MODEL.format(name="last", reads="tiny.first"),
    }
    project = small_project(tmp_path / "small", models, [RAW_DAYS])
    monkeypatch.setenv("SQLMESH_AUTOMATION_PROJECT", str(project))
    file = tmp_path / "location.py"
    file.write_text(LOCATION)
    target = PythonFileTarget(str(file), None, str(tmp_path), "location")
    home = dagster_home(tmp_path / "home", HOME)
    with (
        dg.DagsterInstance.from_config(str(home)) as instance,
        create_test_daemon_workspace_context(target, instance) as context,
    ):
        yield context


def backfill(workspace: WorkspaceProcessContext, backfill_id: str) -> BulkActionStatus:
    """Has Dagster's daemon do a backfill of all assets as of NEXT_DAY; returns how it ends."""
    instance = workspace.instance
    instance.add_backfill(
        PartitionBackfill.from_asset_partitions(
            asset_graph=workspace.create_request_context().asset_graph,
            backfill_id=backfill_id,
            tags={"sqlmesh/execution_time": NEXT_DAY.isoformat()},
            backfill_timestamp=datetime.now(UTC).timestamp(),
            asset_selection=TARGETS,
            partition_names=None,
            dynamic_partitions_store=instance,
            all_partitions=True,
            title=None,
            description=None,
            run_config=None,
        )
    )
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        errors = list(execute_backfill_iteration(workspace, logging.getLogger("backfill")))
        assert not any(errors), errors
        ended = instance.get_backfill(backfill_id)
        assert ended is not None
        if ended.status not in (BulkActionStatus.REQUESTED, BulkActionStatus.FAILING):
            return ended.status
    raise AssertionError("The backfill did not end")


def runs(workspace: WorkspaceProcessContext, backfill_id: str) -> list[Run]:
    """The runs of a backfill."""
    of_backfill = dg.RunsFilter(tags={"dagster/backfill": backfill_id})
    return [
        Run(workspace.instance, run.run_id, run.is_success, {})
        for run in workspace.instance.get_runs(of_backfill)
    ]


@pytest.mark.slow
def test_a_backfill_of_models_that_are_up_to_date_succeeds_and_goes_on_below_them(
    workspace: WorkspaceProcessContext,
) -> None:
    assert backfill(workspace, "first") is BulkActionStatus.COMPLETED_SUCCESS
    versions = {
        key: data_version(materialization)
        for run in runs(workspace, "first")
        for key, materialization in run.materialized().items()
    }

    assert backfill(workspace, "again") is BulkActionStatus.COMPLETED_SUCCESS

    marked = {
        key: materialization
        for run in runs(workspace, "again")
        for key, materialization in run.materialized().items()
    }
    assert set(marked) == {*MODELS, "summary"}
    for model in MODELS:
        assert marked[model].metadata["sqlmesh/outcome"].value == "up_to_date"
        assert evaluated(marked[model].metadata) == []
        assert data_version(marked[model]) == versions[model]
