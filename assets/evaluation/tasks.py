"""What SQLMesh's side can be asked to do, by name.

SQLMesh is imported with the first of them, not before.
"""

from __future__ import annotations

from typing import Any

from ...config.settings import AutomationSettings
from ..lease.waiting import Wait
from ..project.opening import import_sqlmesh
from .contract import JobSide, Task
from .plans import PlannedModel, Restatement, preview, restate


def warm_up() -> None:
    """Imports SQLMesh and all that the tasks need of it.

    Raises:
        IncompatiblePackages: ``sqlglotc`` is installed.
    """
    import_sqlmesh()
    from . import evaluation  # noqa: F401 - imported for what it imports


def run_task(task: Task, *arguments: Any) -> Any:
    """Does a task and returns what it returns.

    Args:
        task: Which.
        arguments: Those of its function; the last one is the run's side.

    Raises:
        Exception: As its function does.
    """
    warm_up()
    from .evaluation import execute

    functions: dict[Task, Any] = {
        Task.EXECUTE: execute,
        Task.RESTATE: _restate,
        Task.PREVIEW: _preview,
    }
    return functions[task](*arguments)


def _restate(
    settings: AutomationSettings, restatement: Restatement, run_id: str, side: JobSide
) -> list[PlannedModel]:
    return restate(settings, restatement, wait=_wait(settings, side), run_id=run_id)


def _preview(settings: AutomationSettings, run_id: str, side: JobSide) -> list[PlannedModel]:
    return preview(settings, _wait(settings, side), f"run {run_id}")


def _wait(settings: AutomationSettings, side: JobSide) -> Wait:
    return Wait(settings.lease_timeout_seconds, side.say, place=settings.place)
