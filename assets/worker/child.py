"""The process of SQLMesh's side: executes what it is ordered to, and asks and tells the run's side.

It ends with the run's process, however that ends, and leaves signals to it: Ctrl-C and service
managers reach both.
"""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import sys
import threading
from contextlib import suppress
from logging.handlers import QueueHandler
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle
from typing import Any, NoReturn

from ..evaluation.tasks import run_task, warm_up
from .wire import Answer, Logged, Order, Question, crossing


def serve(connection: Connection, lifeline: int) -> NoReturn:
    """Executes orders until the run's process closes the connection.

    Args:
        connection: To the run's process.
        lifeline: Descriptor of a pipe whose other end only the run's process has.
    """
    _end_with(lifeline)
    for number in (signal.SIGINT, signal.SIGTERM):
        # Not SIG_IGN, which the programs that a model starts would inherit.
        signal.signal(number, lambda *_: None)
    side = _RemoteSide(connection)
    logging.getLogger().addHandler(_Forwarding(side))
    # What is wrong with it, the first order says again, to somebody who listens.
    with suppress(Exception):
        warm_up()
    with suppress(EOFError, ConnectionError):
        while True:
            order: Order = connection.recv()
            _take_over(order, connection)
            side.send(_executed(order, side))
    # As the processes of runs and steps themselves end: what Python does at its exit, to take apart
    # thousands of modules, takes a second, and the run would wait for it.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _end_with(lifeline: int) -> None:
    """Has the kernel end this process once the other end of a pipe is closed.

    It does so also while native code holds the interpreter, by the default action of ``SIGIO``:
    nothing is ever written to the pipe.
    """
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    flags = fcntl.fcntl(lifeline, fcntl.F_GETFL)
    fcntl.fcntl(lifeline, fcntl.F_SETFL, flags | os.O_ASYNC)
    # It may have been closed before that.
    os.set_blocking(lifeline, False)
    with suppress(BlockingIOError):
        if os.read(lifeline, 1) == b"":
            raise SystemExit(1)


def _take_over(order: Order, connection: Connection) -> None:
    """Takes over the output, the variables and so on of the run's process, as they are now."""
    sys.stdout.flush()
    sys.stderr.flush()
    for stream in (1, 2):
        handle = recv_handle(connection)
        os.dup2(handle, stream)
        os.close(handle)
    sys.path[:] = order.path
    os.environ.clear()
    os.environ.update(order.variables)
    for name, level in order.levels.items():
        logging.getLogger(name).setLevel(level)


def _executed(order: Order, side: _RemoteSide) -> Answer:
    try:
        return Answer(run_task(order.task, *order.arguments, side))
    except BaseException as error:  # noqa: BLE001 - raised in the run's process
        return Answer(error=crossing(error))


class _RemoteSide:
    """The run's side, on the other end: a call of any of its methods is made there. Thread-safe."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.RLock()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)

        def ask(*arguments: Any) -> Any:
            with self._lock:
                self._connection.send(Question(name, arguments))
                answer: Answer = self._connection.recv()
            if answer.error is not None:
                raise answer.error
            return answer.value

        return ask

    def send(self, message: Answer | Logged) -> None:
        """Sends what has no answer."""
        with self._lock:
            self._connection.send(message)


class _Forwarding(QueueHandler):
    """Hands log records to the run's process, whose handlers write them."""

    def __init__(self, side: _RemoteSide) -> None:
        super().__init__(side)  # enqueue is all that needs a queue

    def enqueue(self, record: logging.LogRecord) -> None:
        """Sends a record that was made ready for it."""
        side: Any = self.queue
        side.send(Logged(record))
