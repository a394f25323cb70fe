"""Executors that give each step a process of its own: never a second SQLMesh execution."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import dagster as dg
from support import counting
from support.ticks import Run

LOCATION = """
import dagster as dg
from dagster_sqlmesh_automation import build_definitions

job = dg.define_asset_job(
    "isolated",
    selection=["staging/customers", "staging/products", "staging/orders", "sales/orders"],
    executor_def=dg.multiprocess_executor.configured({"max_concurrent": 2}),
    tags={"sqlmesh/execution_time": "2026-10-15T00:00:00+00:00"},
)
defs = dg.Definitions.merge(build_definitions(), dg.Definitions(jobs=[job]))


def isolated():
    return defs.resolve_job_def("isolated")


if __name__ == "__main__":
    with dg.DagsterInstance.get() as instance:
        result = dg.execute_job(dg.reconstructable(isolated), instance, raise_on_error=False)
        print(result.run_id)
"""


def test_a_second_process_is_refused_and_nothing_it_did_not_do_is_green(
    example: Path, tmp_path: Path
) -> None:
    home, log = tmp_path / "home", tmp_path / "executions.log"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    (tmp_path / "location.py").write_text(LOCATION)
    found = subprocess.run(
        [sys.executable, "location.py"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(tmp_path),
            "DAGSTER_HOME": str(home),
            "PYTHONPATH": f"{counting.HOOK}:{tmp_path}",
            counting.LOG_VARIABLE: str(log),
            "SQLMESH_AUTOMATION_PROJECT": str(example),
        },
    )
    run_id = found.stdout.strip().splitlines()[-1]
    with dg.DagsterInstance.from_ref(
        dg.DagsterInstance.local_temp(str(home)).get_ref()
    ) as instance:
        run = Run(instance, run_id, success=False, outcomes={})
        failed = run.steps(dg.DagsterEventType.STEP_FAILURE)
        materialized = set(run.materialized())
        messages = [
            event.step_failure_data.error.cause.message
            for event in run.events(dg.DagsterEventType.STEP_FAILURE)
        ]

    assert counting.count(log) == 1
    assert failed
    assert materialized
    assert all("in_process_executor" in message for message in messages)
