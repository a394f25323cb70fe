"""The two places where SQLMesh's side can execute; a run does not see the difference."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.reduction import send_handle
from typing import Any, Protocol

from ...config.errors import AutomationError, WorkerDied
from ...config.rules import Isolation
from ..evaluation.contract import Task
from ..evaluation.tasks import run_task
from .memory import kills_for_memory
from .wire import Answer, Logged, Order, Question, crossing, levels

_END_SECONDS = 5.0
"""How long a child may take to end by itself."""

_PROGRAM = """
import sys
from multiprocessing.connection import Connection
connection = Connection(int(sys.argv[1]))
lifeline = int(sys.argv[2])
sys.path[:], sys.argv[:] = connection.recv()
from dagster_sqlmesh_automation.assets.worker.child import serve
serve(connection, lifeline)
"""


class Place(Protocol):
    """Where SQLMesh's side executes."""

    def start(self) -> None:
        """Begins what takes a while before the first call, where there is such a thing."""

    def call(self, task: Task, *arguments: Any, side: Any) -> Any:
        """Executes a task and returns what it returns.

        Args:
            task: What.
            arguments: Its arguments.
            side: The run's side, whose methods are called meanwhile, in the run's process.

        Raises:
            WorkerDied: The process has ended on the way.
            Exception: As the task.
        """

    def kill(self) -> bool:
        """Ends what is being executed, at once; returns whether it can do that."""

    def close(self) -> None:
        """Leaves nothing behind; the last call."""


Places = Callable[[], Place]
"""Makes the place of one run."""


def place_for(isolation: Isolation, engines: Collection[str]) -> Place:
    """Where executions are to be done.

    Args:
        isolation: What the settings say.
        engines: SQLMesh's names of the engines of the warehouse and of the state.

    Returns:
        A place of its own; of :attr:`.Isolation.AUTO` the thread where DuckDB is among the engines,
        whose file the run's own process may have open.
    """
    if isolation is Isolation.AUTO:
        isolation = Isolation.THREAD if "duckdb" in engines else Isolation.PROCESS
    return InProcess() if isolation is Isolation.PROCESS else InThread()


class InThread:
    """The thread that calls."""

    def start(self) -> None:
        """Nothing takes a while."""

    def call(self, task: Task, *arguments: Any, side: Any) -> Any:
        """Executes a task here."""
        return run_task(task, *arguments, side)

    def kill(self) -> bool:
        """A thread cannot be ended."""
        return False

    def close(self) -> None:
        """Nothing is left behind."""


class InProcess:
    """A process of its own, which is started again where it has died.

    Started by its program's name, not by ``multiprocessing``, which imports the main module of the
    run's process, and so Dagster. It ends with the run's process: the lifeline is a pipe that only
    that one has the end of.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection
        self._lifeline: int

    def start(self) -> None:
        """Starts the process, which imports SQLMesh and waits for an order."""
        if self._process is not None:
            return
        self._kills = kills_for_memory()
        here, there = socket.socketpair()
        lifeline, self._lifeline = os.pipe()
        warnings = [f"-W{option}" for option in sys.warnoptions]
        passed = [there.fileno(), lifeline]
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-u", *warnings, "-c", _PROGRAM, *map(str, passed)],
                pass_fds=passed,
                stdin=subprocess.DEVNULL,
            )
        except OSError:
            os.close(self._lifeline)
            here.close()
            raise
        finally:
            there.close()
            os.close(lifeline)
        self._connection = Connection(here.detach())
        self._send((sys.path, sys.argv))

    def call(self, task: Task, *arguments: Any, side: Any) -> Any:
        """Executes a task there, and answers its questions until it has ended."""
        self.start()
        try:
            self._send(Order(task, arguments, list(sys.path), dict(os.environ), levels()))
            self._hand_over_output()
            while True:
                message = self._receive()
                if isinstance(message, Logged):
                    logging.getLogger(message.record.name).handle(message.record)
                elif isinstance(message, Question):
                    self._send(_answer(message, side))
                elif message.error is not None:
                    raise message.error
                else:
                    return message.value
        except AutomationError:
            raise  # what the task has raised, or that the process is gone
        except BaseException:
            # An interrupt: whoever called does not wait for the rest.
            self.kill()
            self._end()
            raise

    def kill(self) -> bool:
        """Ends the process with what it does; whoever waits for it gets :class:`WorkerDied`."""
        process = self._process
        if process is not None:
            process.kill()
        return True

    def close(self) -> None:
        """Ends the process."""
        if self._process is not None:
            self._end()

    def _end(self) -> int:
        """Ends the process if it has not ended; returns its exit status, as ``Popen`` has it."""
        process, self._process = self._process, None
        assert process is not None
        # It ends once there is no connection; where it has closed its own, it is about to.
        self._connection.close()
        try:
            return process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()
        finally:
            os.close(self._lifeline)

    def _hand_over_output(self) -> None:
        """Has it write where this process writes now: Dagster captures the output of steps."""
        assert self._process is not None
        for stream in (1, 2):
            with _open(stream) as descriptor:
                try:
                    send_handle(self._connection, descriptor, self._process.pid)
                except OSError as error:
                    raise self._died() from error

    def _send(self, message: object) -> None:
        try:
            self._connection.send(message)
        except OSError as error:
            raise self._died() from error

    def _receive(self) -> Answer | Question | Logged:
        try:
            message: Answer | Question | Logged = self._connection.recv()
        except (EOFError, OSError) as error:
            raise self._died() from error
        return message

    def _died(self) -> WorkerDied:
        status = self._end()
        by_memory = status == -signal.SIGKILL and kills_for_memory() > self._kills
        return WorkerDied(status, out_of_memory=by_memory)


@contextmanager
def _open(stream: int) -> Iterator[int]:
    """A descriptor of a stream of this process, or of nowhere if it is closed."""
    try:
        descriptor = os.dup(stream)
    except OSError:
        descriptor = os.open(os.devnull, os.O_WRONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _answer(question: Question, side: Any) -> Answer:
    try:
        return Answer(getattr(side, question.name)(*question.arguments))
    except Exception as error:  # noqa: BLE001 - raised by whoever asked
        return Answer(error=crossing(error))
