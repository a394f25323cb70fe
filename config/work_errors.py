"""Errors of a tick or a run at work: something is out of reach, or an execution gave up."""

from __future__ import annotations

import signal
from collections.abc import Collection

from .error_roots import ExecutionError, Unavailable
from .paths import Projects


class DatabaseLocked(Unavailable):
    """Another process holds the DuckDB database."""

    def __init__(self, database: str, reason: str) -> None:
        super().__init__(f"The DuckDB database {database} is in use by another process: {reason}")


class DagsterUnavailable(Unavailable):
    """The storage of the Dagster instance cannot be reached."""

    def __init__(self, home: str, reason: str) -> None:
        super().__init__(
            f"The storage of the Dagster instance DAGSTER_HOME={home!r} is out of reach: {reason}"
        )


class LeaseTaken(Unavailable):
    """Another execution evaluates models that this one needs."""

    def __init__(self, blocked: str, place: str) -> None:
        super().__init__(f"Gave up waiting: {blocked}. How long a run waits is set by {place}.")


class LeaseLost(Unavailable):
    """The session that held the lease has ended."""

    def __init__(self) -> None:
        super().__init__(
            "The connection that held this run's lease was lost, so another run may have begun to "
            "evaluate the same models: stopped at the next model."
        )


class StateUnavailable(Unavailable):
    """The state database or the warehouse cannot be reached."""

    def __init__(self, projects: Projects, reason: str) -> None:
        super().__init__(
            f"The state database or the warehouse of {projects} is out of reach: {reason}"
        )


class ExecutionAborted(ExecutionError):
    """The execution stopped before this model had an outcome."""

    def __init__(self, model: str, reason: str) -> None:
        super().__init__(f"{model} was not evaluated: the SQLMesh execution stopped. {reason}")


class WorkerDied(ExecutionError):
    """The process in which SQLMesh executes has ended in the middle of it.

    Args:
        status: Its exit status; below zero the signal that ended it.
        out_of_memory: Whether the kernel has killed a process of the container for its memory.
        models: Names of the models that it was evaluating.
    """

    def __init__(
        self, status: int, *, out_of_memory: bool = False, models: Collection[str] = ()
    ) -> None:
        self.status, self.out_of_memory = status, out_of_memory
        during = f" while it evaluated {', '.join(sorted(models))}" if models else ""
        super().__init__(f"SQLMesh's process {_ending(status, out_of_memory)}{during}.")

    def during(self, models: Collection[str]) -> WorkerDied:
        """Returns the same with the names of the models that it was evaluating."""
        return WorkerDied(self.status, out_of_memory=self.out_of_memory, models=models)


def _ending(status: int, out_of_memory: bool) -> str:
    if status >= 0:
        return f"ended with exit status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    if out_of_memory:
        name += " (out of memory: the kernel has counted one more such kill in this container)"
    elif status == -signal.SIGKILL:
        name += " (by the kernel for want of memory, or by somebody's kill -9)"
    elif status in {-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS, -signal.SIGILL}:
        name += " (a fault in native code: a driver, DuckDB, or a library of a Python model)"
    return f"was ended by {name}"


class WorkerFailed(ExecutionError):
    """SQLMesh's process has raised an error that only it knows; the message names its kind."""


class ExecutionStopped(ExecutionError):
    """The execution was stopped before its end, and not because a person terminated the run."""

    def __init__(self, run_id: str) -> None:
        super().__init__(
            f"It was stopped before its end, although nobody has terminated run {run_id}: its "
            "process was told to end, or the run had ended. The next tick requests what is left."
        )


class SQLMeshFailed(ExecutionError):
    """SQLMesh gave up on something that belongs to no model, such as a signal's own error."""

    def __init__(self, projects: Projects, reason: str) -> None:
        super().__init__(f"SQLMesh gave up on {projects}: {reason}")


class ExecutionEndFailed(ExecutionError):
    """SQLMesh has evaluated the models and failed after the last one, as on ``after_all``."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"SQLMesh failed after the last model: {reason}")


class LedgerBroken(ExecutionError):
    """What became of a model could not be written to Dagster's event log."""

    def __init__(self, model: str, reason: str) -> None:
        super().__init__(
            f"SQLMesh has dealt with {model}, and Dagster's event log did not take the record of "
            f"it: {reason}. The execution was stopped; the next tick reports what was evaluated."
        )


class OutcomeMissing(ExecutionError):
    """The execution ended and the ledger has nothing for this model."""

    def __init__(self, model: str, run_id: str) -> None:
        super().__init__(
            f"The SQLMesh execution of run {run_id} ended without an outcome for {model}. "
            "This is a defect of dagster-sqlmesh-automation: please report it with the run's log."
        )
