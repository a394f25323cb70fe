"""Loading definitions and ticking, against SQLMesh's own load, side by side in one run.

    python benchmarks/load_and_tick.py [MODELS ...]

Prints seconds, ratios, sizes, for 100 and 1,000 models where nothing else is said. Each size has a
process of its own, since memory is measured; its project is generated below a temporary folder.
"""

from __future__ import annotations

import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

os.environ["SQLMESH__DISABLE_ANONYMIZED_ANALYTICS"] = "true"
os.environ["MAX_FORK_WORKERS"] = "1"

import dagster as dg
from generator import generate_project

from dagster_sqlmesh_automation import AutomationSettings
from dagster_sqlmesh_automation.automation.definitions import Location
from dagster_sqlmesh_automation.config.rules import ModelRule

PLANNED_AT = datetime(2026, 10, 14, tzinfo=UTC)
ROUNDS = 5


def main(models: int) -> None:
    print(
        f"{models} models, {platform.machine()}, {os.cpu_count()} cores, Python {sys.version[:6]}"
    )
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder) / "project"
        # Without signals, so that a moment exists at which nothing is due.
        generate_project(project, models, seed=1, extras=["audits"])
        plan(project)
        settings = AutomationSettings(project=project)
        context = measured("Context(), warm cache", lambda: load_context(project))
        Location(settings)
        load = measured("definitions from the manifest", lambda: load_definitions(settings))
        print(f"  definitions / Context(): {load / context:.2f} (limit 0.33)")
        ticks(settings, models)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"peak memory, SQLMesh and its load included: {peak:,} MB")


def ticks(settings: AutomationSettings, models: int) -> None:
    location = Location(settings)
    repository = location.definitions.get_repository_def()
    with dg.DagsterInstance.ephemeral() as instance:
        cursor: list[str | None] = [None]

        def tick(at: datetime) -> None:
            plan = location.planner.plan(instance, at)
            with dg.build_sensor_context(
                instance=instance, repository_def=repository, cursor=cursor[0]
            ) as context:
                cursor[0] = location.sensor.request(context, plan, simulated=True).cursor

        tick(PLANNED_AT)  # imports SQLMesh and reads the snapshots
        assert not location.planner.plan(instance, PLANNED_AT).due
        idle = measured("idle tick", lambda: tick(PLANNED_AT))
        print(f"  idle tick: {idle:.2f} s (limit 1.5 s at 1000 models)")
        firing = measured("firing tick", lambda: tick(PLANNED_AT + timedelta(days=1)))
        print(f"  firing / idle: {firing / idle:.1f}; {firing / models * 1000:.1f} ms a model")
        print(f"  cursor: {len(cursor[0] or ''):,} bytes")
    held(settings, idle)


def held(settings: AutomationSettings, idle: float) -> None:
    """A tick at which all is due and paused: the same answer as at the tick before."""
    location = Location(settings.model_copy(update={"models": {"*": ModelRule(paused=True)}}))
    repository = location.definitions.get_repository_def()
    location.planner.learn(repository.asset_graph)
    at, cursor = PLANNED_AT + timedelta(days=1), [""]
    with dg.DagsterInstance.ephemeral() as instance:

        def tick() -> None:
            plan = location.planner.plan(instance, at)
            assert plan.due
            assert not plan.requested
            with dg.build_sensor_context(
                instance=instance, repository_def=repository, cursor=cursor[0] or None
            ) as context:
                cursor[0] = str(location.sensor.request(context, plan, simulated=True).cursor)

        tick()
        seconds = measured("held tick", tick)
        print(f"  held / idle: {seconds / idle:.1f}")


def load_definitions(settings: AutomationSettings) -> None:
    Location(settings).definitions.get_repository_def()


def load_context(project: Path) -> None:
    from sqlmesh import Context

    Context(paths=[project]).close()


def plan(project: Path) -> None:
    from sqlmesh import Context
    from sqlmesh.core.console import NoopConsole, set_console

    set_console(NoopConsole())
    context = Context(paths=[project])
    context.plan("prod", execution_time=PLANNED_AT, auto_apply=True, no_prompts=True)
    context.close()


def measured(name: str, work: Callable[[], None]) -> float:
    """Median of some rounds, printed with its spread."""
    seconds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    median = statistics.median(seconds)
    print(f"{name}: {median:.2f} s ({min(seconds):.2f} to {max(seconds):.2f})")
    return median


if __name__ == "__main__":
    sizes = [int(size) for size in sys.argv[1:]] or [100, 1000]
    if len(sizes) == 1:
        main(sizes[0])
    else:
        for size in sizes:
            subprocess.run([sys.executable, __file__, str(size)], check=True)
