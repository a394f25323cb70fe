"""The truth table's last row: a run that is terminated while SQLMesh evaluates."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest
from support import counting
from support.outcome_helpers import (
    NOT_STARTED,
    Recorded,
    T,
    Worker,
    intervals,
    recorded,
    runless,
    small_project,
)

PLANNED = datetime(2024, 1, 2, tzinfo=UTC)
"""Long past, because the worker's run is one of now."""

FULL = "MODEL (name slow.{name}, kind FULL, cron '@daily'); SELECT {columns} {source}"
HELD = """\
import time
from pathlib import Path

import pandas as pd
from sqlmesh import model


@model("slow.held", kind="FULL", cron="@daily", columns={{"x": "int"}}, depends_on={{"slow.first"}})
def execute(context, start, end, execution_time, **kwargs):
    gate = Path("{gate}")
    if gate.exists():
        (gate / "reached").touch()
        while not (gate / "open").exists():
            time.sleep(0.05)
    return pd.DataFrame({{"x": [1]}})
"""


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """Once it exists, ``slow.held`` says there that it is being evaluated, and waits."""
    return tmp_path / "gate"


@pytest.fixture
def project(tmp_path: Path, gate: Path) -> Path:
    """Two models at a time: while ``held`` waits, ``quick`` is evaluated beside it."""
    files = {
        "models/first.sql": FULL.format(name="first", columns="1 AS x", source=""),
        "models/held.py": HELD.format(gate=gate),
        "models/after.sql": FULL.format(name="after", columns="x", source="FROM slow.held"),
        "models/last.sql": FULL.format(name="last", columns="x", source="FROM slow.after"),
        "models/quick.sql": FULL.format(name="quick", columns="x", source="FROM slow.first"),
    }
    return small_project(tmp_path / "small", files, at=PLANNED, tasks=2)


def test_a_terminated_run_reports_what_sqlmesh_has_evaluated_and_nothing_else(
    project: Path, gate: Path, tmp_path: Path
) -> None:
    before = intervals(project)
    gate.mkdir()
    with Worker(project, tmp_path / "home") as worker:
        worker.wait_for((gate / "reached").exists)
        worker.wait_for(
            lambda: any(
                outcome.name == "slow.quick" and outcome.status == "executed"
                for outcome in worker.run.outcomes.values()
            )
        )
        # The step of held waits, and that of quick comes after it.
        worker.wait_for(lambda: recorded(worker.run, "slow/held").step == "started")
        worker.terminate()
        worker.wait_for(lambda: recorded(worker.run, "slow/held").step == "failure")
        # The batch that is being evaluated comes to its end, as SQLMesh has no way to stop it.
        (gate / "open").touch()
        assert not worker.leftover_processes

        run, instance = worker.run, worker.instance
        (status,) = [run.status for run in instance.get_runs()]
        assert status is dg.DagsterRunStatus.CANCELED
        assert recorded(run, "slow/first") == Recorded("success", 1)
        assert recorded(run, "slow/held") == Recorded("failure")
        assert run.failure("slow__held").user_failure_data is None
        for asset in ("slow/quick", "slow/after", "slow/last"):
            assert recorded(run, asset) == NOT_STARTED
        assert run.steps(T.STEP_START) == {"slow__first", "slow__held"}

        (quick,) = runless(instance, "slow/quick")
        assert quick.metadata["sqlmesh/run_id"].value == run.run_id
        assert quick.metadata["sqlmesh/outcome"].value == "executed"

        evaluated = {name for name, found in intervals(project).items() if found != before[name]}
        assert evaluated == {"slow.first", "slow.held", "slow.quick"}
        shown = {
            key.to_user_string().replace("/", ".")
            for key in instance.all_asset_keys()
            if instance.get_latest_materialization_event(key) is not None
        }
        assert shown == evaluated

        unfinished = {o.name: o.status for o in run.by_name().values() if not o.succeeded}
        assert unfinished == {"slow.after": "cancelled", "slow.last": "cancelled"}
        assert counting.count(worker.executions) == 1
