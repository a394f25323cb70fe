"""Runs a program in a process of its own and measures what it took."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from memory import Memory, MemoryWatch
from support import counting

PROGRAMS = Path(__file__).parent / "programs"
PEER = Path(__file__).parent.parent / ".venv-peer" / "bin" / "python"
"""The interpreter of the peer's environment, made by ``make bench-peer``."""


@dataclass(frozen=True)
class Sample:
    """One process, from its start to its end.

    Attributes:
        wall: How long it took, in seconds.
        cpu: Processor time, in seconds; it includes the processes that it started.
        memory: What it held, and the processes that it started.
        executions: How often SQLMesh's scheduler ran in them.
        evaluated: When SQLMesh had evaluated each model, in seconds since the epoch.
        imports_sqlmesh: Whether the process itself imported SQLMesh.
        answer: The JSON object that the program printed as its last line.
        error: The last line of its errors if it failed.
    """

    wall: float
    cpu: float
    memory: Memory = field(default_factory=Memory)
    executions: int = 0
    evaluated: Mapping[str, float] = field(default_factory=dict)
    imports_sqlmesh: bool = False
    answer: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None

    @property
    def visible(self) -> list[float]:
        """How long after SQLMesh's evaluation Dagster showed each model, in seconds."""
        shown = self.answer.get("shown", {})
        return [shown[model] - at for model, at in self.evaluated.items() if model in shown]


@contextmanager
def on_cores(cores: Collection[int] | None) -> Iterator[None]:
    """Has processes that are started meanwhile use these cores alone; all of them if ``None``."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, before if cores is None else cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def run_program(
    name: str, variables: Mapping[str, str], *, python: Path | None = None, shares: bool = False
) -> Sample:
    """Runs one of the programs beside this file; see :func:`run_command`."""
    return run_command([str(python or sys.executable), str(PROGRAMS / name)], variables, shares)


def run_job(
    name: str, variables: Mapping[str, str], *, python: Path | None = None, shares: bool = False
) -> Sample:
    """Has one of the programs ask for a run, and measures the process that then executes it."""
    asked = run_program(name, variables, python=python)
    if asked.error:
        return asked
    return run_program(
        name, {**variables, "RUN": asked.answer["run"]}, python=python, shares=shares
    )


def run_command(
    command: Sequence[str], variables: Mapping[str, str], shares: bool = False
) -> Sample:
    """Runs a command; counts what SQLMesh's scheduler does, in all its processes.

    Args:
        command: The command.
        variables: Environment variables, on top of those of this process.
        shares: Whether to measure too what its processes hold of memory that they share. That
            takes time, so it is nothing for a sample whose time counts.
    """
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "executions"
        environment = {
            **os.environ,
            **variables,
            "PYTHONPATH": os.pathsep.join([str(counting.HOOK), str(PROGRAMS)]),
            counting.LOG_VARIABLE: str(log),
            "SQLMESH__DISABLE_ANONYMIZED_ANALYTICS": "true",
            "DAGSTER_DISABLE_TELEMETRY": "yes",
            "MAX_FORK_WORKERS": "1",
        }
        out, errors = Path(folder) / "out", Path(folder) / "errors"
        with out.open("w") as output, errors.open("w") as problems:
            started = time.perf_counter()
            process = subprocess.Popen(
                command, env=environment, cwd=folder, stdout=output, stderr=problems
            )
            with MemoryWatch(process.pid, shares) as watch:
                _, status, usage = os.wait4(process.pid, 0)
            wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        lines = out.read_text().splitlines()
        failed = process.returncode != 0
        return Sample(
            wall,
            usage.ru_utime + usage.ru_stime,
            watch.memory,
            counting.count(log),
            counting.evaluated(log),
            process.pid in counting.importers(log),
            json.loads(lines[-1]) if lines and lines[-1].startswith("{") else {},
            (errors.read_text().strip().splitlines() or lines or ["?"])[-1] if failed else None,
        )
