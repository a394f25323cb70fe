"""What a step costs that follows the shared execution in a process of its own.

    python benchmarks/followers.py [MODELS]

Runs one project under the multiprocess executor three times: as it is, with steps that import
SQLMesh as they would without the manifest, and with steps of the same number that do nothing.
Prints seconds for a step and ratios.
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

os.environ["SQLMESH__DISABLE_ANONYMIZED_ANALYTICS"] = "true"
os.environ["MAX_FORK_WORKERS"] = "1"

import dagster as dg
from generator import generate_project

from dagster_sqlmesh_automation.automation.definitions import Location
from dagster_sqlmesh_automation.config.settings import AutomationSettings

PLANNED_AT = datetime(2026, 10, 14, tzinfo=UTC)
AT = "2026-10-15T00:00:00+00:00"

PROGRAM = """
import os
import dagster as dg
if os.environ["KIND"] == "with sqlmesh":
    import sqlmesh

if os.environ["KIND"] == "empty":
    def empty(number):
        @dg.asset(name=f"empty_{number}")
        def step():
            pass
        return step
    base = dg.Definitions(assets=[empty(n) for n in range(int(os.environ["MODELS"]))])
else:
    from dagster_sqlmesh_automation import build_definitions
    base = build_definitions()
executor = dg.multiprocess_executor.configured({"max_concurrent": 2})
job = dg.define_asset_job("followed", selection="*", executor_def=executor)
defs = dg.Definitions.merge(base, dg.Definitions(jobs=[job]))

def followed():
    return defs.resolve_job_def("followed")

if __name__ == "__main__":
    with dg.DagsterInstance.get() as instance:
        dg.execute_job(
            dg.reconstructable(followed),
            instance,
            raise_on_error=True,
            tags={"sqlmesh/execution_time": os.environ["AT"]},
        )
"""


def main(models: int) -> None:
    print(
        f"{models} models, {platform.machine()}, {os.cpu_count()} cores, Python {sys.version[:6]}"
    )
    seconds = {kind: measured(kind, models) for kind in ("empty", "as it is", "with sqlmesh")}
    print(f"  as it is / empty steps: {seconds['as it is'] / seconds['empty']:.2f}")
    print(f"  with sqlmesh / as it is: {seconds['with sqlmesh'] / seconds['as it is']:.2f}")


def measured(kind: str, models: int) -> float:
    """Median seconds from the launch of a step's process to the step's end, in one run."""
    with tempfile.TemporaryDirectory() as folder:
        project, home = Path(folder) / "project", Path(folder) / "home"
        generate_project(project, models, seed=1, extras=[])
        plan(project)
        Location(AutomationSettings(project=project))  # prepares the manifest
        home.mkdir()
        (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
        (Path(folder) / "program.py").write_text(PROGRAM)
        subprocess.run(
            [sys.executable, "program.py"],
            cwd=folder,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={
                **os.environ,
                "DAGSTER_HOME": str(home),
                "SQLMESH_AUTOMATION_PROJECT": str(project),
                "KIND": kind,
                "MODELS": str(models),
                "AT": AT,
            },
        )
        with dg.DagsterInstance.from_config(str(home)) as instance:
            (run,) = instance.get_run_records()
            steps = step_seconds(instance, run.dagster_run.run_id)
        assert run.start_time is not None
        assert run.end_time is not None
    median = statistics.median(steps)
    whole = run.end_time - run.start_time
    print(f"  {kind}: {median:.2f} s a step (median of {len(steps)}), run {whole:.0f} s")
    return median


def step_seconds(instance: dg.DagsterInstance, run_id: str) -> list[float]:
    began: dict[str, float] = {}
    found: list[float] = []
    types = {dg.DagsterEventType.STEP_WORKER_STARTING, dg.DagsterEventType.STEP_SUCCESS}
    for record in instance.get_records_for_run(run_id, of_type=types).records:
        event = record.event_log_entry.dagster_event
        assert event is not None
        assert event.step_key is not None
        if event.event_type is dg.DagsterEventType.STEP_WORKER_STARTING:
            began[event.step_key] = record.timestamp
        else:
            found.append(record.timestamp - began[event.step_key])
    return found


def plan(project: Path) -> None:
    from sqlmesh import Context
    from sqlmesh.core.console import NoopConsole, set_console

    set_console(NoopConsole())
    context = Context(paths=[project])
    context.console = NoopConsole()
    context.plan("prod", execution_time=PLANNED_AT, auto_apply=True, no_prompts=True)
    context.close()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 50)
