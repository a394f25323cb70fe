"""Counts SQLMesh executions at SQLMesh's own scheduler, from outside the package under test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HOOK = Path(__file__).parent / "hook"
"""Put this folder on PYTHONPATH to count in other processes, and name the file in LOG_VARIABLE."""

LOG_VARIABLE = "COUNT_SQLMESH_EXECUTIONS"


def install(log: Path) -> Any:
    """Makes each evaluation run of SQLMesh's scheduler append a line to a file.

    Returns:
        The original method.
    """
    from sqlmesh.core.scheduler import Scheduler

    original = Scheduler._run_or_audit

    def counted(self: Scheduler, *args: Any, **kwargs: Any) -> Any:
        selected = kwargs.get("selected_snapshots")
        with log.open("a") as file:
            file.write(f"{os.getpid()} {len(selected) if selected is not None else 'all'}\n")
        return original(self, *args, **kwargs)

    Scheduler._run_or_audit = counted  # type: ignore[method-assign]
    return original


@contextmanager
def counting(log: Path) -> Iterator[None]:
    """Counts in this process."""
    from sqlmesh.core.scheduler import Scheduler

    original = install(log)
    try:
        yield
    finally:
        Scheduler._run_or_audit = original  # type: ignore[method-assign]


def count(log: Path) -> int:
    """How many executions the file holds."""
    return len(log.read_text().splitlines()) if log.exists() else 0


def importers(log: Path) -> set[int]:
    """Ids of the processes that have imported SQLMesh."""
    imports = Path(f"{log}.imports")
    return set(map(int, imports.read_text().split())) if imports.exists() else set()


def evaluated(log: Path) -> dict[str, float]:
    """When SQLMesh had evaluated each model last, by its name, in seconds since the epoch."""
    file = Path(f"{log}.evaluated")
    lines = file.read_text().splitlines() if file.exists() else []
    return {name: float(at) for at, _, name in (line.partition(" ") for line in lines)}
