"""What the fault campaign does to a run: each blow strikes once and says what it was."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from .executors import Launch
from .postgres import Server
from .warehouse import Warehouse

STOPPED_SECONDS = 5.0
"""Longer than a holder takes to look at its lease, and than any wait that it has for an answer."""

_CHILD = b"assets.worker.child"


@dataclass
class Target:
    """A run that is struck.

    Attributes:
        launch: The run.
        shop: Its project.
        second: Launches another run of the same models.
        server: The server of its tables, SQLMesh's state and Dagster's storage, if there is one.
    """

    launch: Launch
    shop: Warehouse
    second: Callable[[], Launch]
    server: Server | None

    def signal(self, number: int, *, group: bool = False) -> None:
        """Sends a signal to the process of the run that executes, or to all processes of it."""
        pid = self.launch.process.pid if group else self.launch.executing()
        with contextlib.suppress(ProcessLookupError):
            assert pid is not None
            (os.killpg if group else os.kill)(pid, number)

    def signal_sqlmesh(self, number: int) -> None:
        """Sends one to the process of its own that SQLMesh has, where it has one."""
        executing = self.launch.executing()
        children = Path(f"/proc/{executing}/task").glob("*/children")
        with contextlib.suppress(OSError):
            for pid in (pid for path in children for pid in path.read_text().split()):
                if _CHILD in Path(f"/proc/{pid}/cmdline").read_bytes():
                    os.kill(int(pid), number)

    def end_lease(self) -> None:
        """Ends the session of its lease, if it still has it."""
        assert self.shop.database is not None
        self.shop.database.drop_sessions(f"%automation run {self.launch.run_id}")

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """While this lasts, no process of it does anything."""
        self.signal(signal.SIGSTOP, group=True)
        try:
            yield
        finally:
            self.signal(signal.SIGCONT, group=True)


def executing_killed(target: Target) -> None:
    """Kills the process that executes."""
    target.signal(signal.SIGKILL)


def sqlmesh_killed(target: Target) -> None:
    """Kills SQLMesh's process."""
    target.signal_sqlmesh(signal.SIGKILL)


def both_killed(target: Target) -> None:
    """Kills SQLMesh's process and then the one that started it."""
    target.signal_sqlmesh(signal.SIGKILL)
    target.signal(signal.SIGKILL)


def all_killed(target: Target) -> None:
    """Kills every process of the run, as a machine that fails."""
    target.launch.kill_all()


def stopped(target: Target) -> None:
    """Stops every process of the run for a while, with another run waiting."""
    with ExitStack() as runs:
        with target.stopped():
            second = runs.enter_context(target.second())
            assert second.run_id
            time.sleep(STOPPED_SECONDS)
        target.launch.finish()
        second.finish()


def lease_ended(target: Target) -> None:
    """Ends the session of its lease while another run waits, and lets it go on meanwhile."""
    with target.second() as second:
        assert second.run_id
        target.end_lease()
        target.launch.finish()
        second.finish()


def stopped_and_lease_ended(target: Target) -> None:
    """Stops the run, has another one take over, and lets it go on after that."""
    with target.stopped():
        target.end_lease()
        with target.second() as second:
            second.finish()


def server_restarted(target: Target) -> None:
    """Crashes the server and starts it again."""
    assert target.server is not None
    target.server.stop()
    target.server.start()


Blow = Callable[[Target], None]

ON_FILES: tuple[Blow, ...] = (executing_killed, sqlmesh_killed, both_killed, all_killed, stopped)
"""Where SQLMesh's state, its tables and Dagster's storage are files."""

ON_A_SERVER: tuple[Blow, ...] = (
    *ON_FILES,
    lease_ended,
    stopped_and_lease_ended,
    server_restarted,
)
"""Where they are on a server."""

OF_A_PROCESS = frozenset({sqlmesh_killed, both_killed})
"""Those that need a process of SQLMesh's own."""
