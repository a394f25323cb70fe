"""SQLMesh projects for tests: the example and generated ones, planned at a known moment."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "jaffle_shop"
PLANNED_AT = datetime(2026, 10, 14, tzinfo=UTC)
"""The moment at which the tests' projects have been planned and evaluated up to."""


@cache
def example_data() -> Any:
    """The example's ``generate.py`` as a module."""
    spec = importlib.util.spec_from_file_location("jaffle_shop_data", EXAMPLE / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def copy_example(folder: Path) -> Path:
    """Copies the example's files, without data or state."""
    ignored = shutil.ignore_patterns("*.duckdb*", ".cache", "logs", "__pycache__")
    return Path(shutil.copytree(EXAMPLE, folder, ignore=ignored))


def planned_example(folder: Path) -> Path:
    """The example with raw data, planned and evaluated up to :data:`PLANNED_AT`."""
    return planned_in(copy_example(folder))


def planned_in(folder: Path) -> Path:
    """A copy of the example, given raw data, planned and evaluated up to :data:`PLANNED_AT`."""
    example_data().generate(folder / "jaffle_shop.duckdb", date(2026, 10, 1), date(2026, 11, 1))
    plan(folder, PLANNED_AT)
    return folder


def plan(
    project: Path | Sequence[Path], at: datetime, environment: str = "prod", **kwargs: Any
) -> None:
    """Plans and applies with SQLMesh itself."""
    with_context(
        project,
        lambda context: context.plan(
            environment, execution_time=at, auto_apply=True, no_prompts=True, **kwargs
        ),
    )


def begin_plan(project: Path, environment: str = "prod") -> str:
    """Begins to apply a plan and leaves it at that, as one that is killed does; returns its id.

    SQLMesh records the environment with the plan first, finalizes it last, and evaluates in
    between what is forward-only.
    """

    def begin(context: Any) -> str:
        state = context.state_sync
        current = state.get_environment(environment)
        new = {"plan_id": "unfinished", "previous_plan_id": current.plan_id, "finalized_ts": None}
        state.promote(current.copy(update=new))
        return str(state.get_environment(environment).plan_id)

    return str(with_context(project, begin))


def sqlmesh_run(
    project: Path | Sequence[Path], at: datetime, environment: str = "prod", **kwargs: Any
) -> Any:
    """SQLMesh's own ``run`` as of a moment."""
    return with_context(
        project,
        lambda context: context.run(
            environment, execution_time=at, end=at, skip_janitor=True, **kwargs
        ),
    )


def with_context(project: Path | Sequence[Path], work: Callable[[Any], Any]) -> Any:
    """Does something with a loaded SQLMesh context, of one project or several, and closes it."""
    from sqlmesh import Context
    from sqlmesh.core.console import NoopConsole, set_console

    set_console(NoopConsole())
    context = Context(paths=[project] if isinstance(project, Path) else project)
    context.console = NoopConsole()
    try:
        return work(context)
    finally:
        context.close()
