"""Runs a program in a process of its own and measures what it took."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
        peak: The most memory that one of these processes held, in MB.
        executions: How often SQLMesh's scheduler ran in them.
        answer: The JSON object that the program printed as its last line.
        error: The last line of its errors if it failed.
    """

    wall: float
    cpu: float
    peak: int
    executions: int
    answer: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None


def run_program(name: str, variables: Mapping[str, str], *, python: Path | None = None) -> Sample:
    """Runs one of the programs beside this file."""
    return run_command([str(python or sys.executable), str(PROGRAMS / name)], variables)


def run_command(command: Sequence[str], variables: Mapping[str, str]) -> Sample:
    """Runs a command; counts the executions at SQLMesh's scheduler, in all its processes."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "executions"
        environment = {
            **os.environ,
            **variables,
            "PYTHONPATH": str(counting.HOOK),
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
            _, status, usage = os.wait4(process.pid, 0)
            wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        lines = out.read_text().splitlines()
        answer = json.loads(lines[-1]) if lines and lines[-1].startswith("{") else {}
        failed = process.returncode != 0
        return Sample(
            wall,
            usage.ru_utime + usage.ru_stime,
            usage.ru_maxrss // 1024,
            counting.count(log),
            answer,
            (errors.read_text().strip().splitlines() or lines or ["?"])[-1] if failed else None,
        )
