"""Keeps an execution that has lost its lease from writing.

A lock on a server ends with its session, and a session may end while the process that had it goes
on, in the middle of a statement. So the sessions in which an execution writes, to the warehouse and
to SQLMesh's state, are marked on their servers, and are ended from two sides: by the execution,
once it finds its lease lost, and by whoever takes its models over, before it evaluates any of them.
The lock that stands for a session is taken first, then the session is marked, and after that the
lease is looked at. So a successor sees every one that can still write, and takes none for lost
whose execution has its lease.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from ..sqlmesh_internals import close_connections, connection_factory, on_connect
from .waiting import Wait
from .writers import SERVERS, Server

if TYPE_CHECKING:
    from sqlmesh.core.engine_adapter.base import EngineAdapter

SILENT_SECONDS = 60.0
"""How long a successor waits where it cannot ask the warehouse who writes: long enough for an
execution to notice that its lease is lost and to close its connections."""

_RETRY_SECONDS = 2.0

_log = logging.getLogger(__name__)


class Lease(Protocol):
    """What a fence asks of the lease that it belongs to."""

    def check(self) -> None:
        """Raises an error where the lease is lost."""

    def own(self, lock: str) -> bool:
        """Takes a lock for as long as the lease lasts; returns whether it has it."""

    def owned(self, locks: Sequence[str]) -> set[str]:
        """Returns those of the locks that any lease has."""


@dataclass(frozen=True)
class _Destination:
    """Where one engine adapter writes.

    Attributes:
        server: How sessions are marked, found and ended there.
        connect: Opens a connection that is not marked.
    """

    server: Server
    connect: Callable[[], Any]


class Fence:
    """The sessions in which one execution writes.

    Args:
        state: What tells this SQLMesh state from others, in eight characters.
        run_id: The Dagster run that executes.
        lease: Its lease.
    """

    def __init__(self, state: str, run_id: str, lease: Lease) -> None:
        self._state, self._run_id, self._lease = state, run_id, lease
        self._adapters: list[EngineAdapter] = []
        self._destinations: list[_Destination] = []
        self._silent: list[EngineAdapter] = []
        self._owned: set[str] = set()

    def guard(self, adapters: Iterable[EngineAdapter]) -> None:
        """Has these adapters write in marked sessions, and open none once the lease is lost.

        Those that it has guarded before stay as they are, with their connections: an execution
        begins anew with them after a plan.
        """
        for adapter in adapters:
            if adapter.dialect == "duckdb" or any(adapter is each for each in self._adapters):
                continue  # of DuckDB, the lock on its file ends with the process
            server = SERVERS.get(adapter.dialect)
            if server is None:
                on_connect(adapter, lambda connection: self._lease.check())
                self._silent.append(adapter)
            else:
                self._destinations.append(_Destination(server, connection_factory(adapter)))
                close_connections(adapter)  # those that are open are not marked
                on_connect(adapter, partial(self._mark, server))
            self._adapters.append(adapter)

    def release(self) -> None:
        """Closes all of them, before others may have the lease."""
        for adapter in self._adapters:
            close_connections(adapter)

    def end_own(self, given_up: threading.Event) -> None:
        """Ends what they are doing, as the lease is lost; tries until it is given up."""
        left = [partial(self._end_owned, destination) for destination in self._destinations]
        # BigQuery's cancels its jobs; of the others a statement that runs may go on to its end.
        left += [partial(adapter.close) for adapter in self._silent]
        while left:
            try:
                left[0]()
            except Exception:  # noqa: BLE001 - logged, and tried again
                _log.warning("Cannot end what this execution does in a database", exc_info=True)
                if given_up.wait(_RETRY_SECONDS):
                    return
            else:
                del left[0]

    def end_predecessors(self, wait: Wait) -> str:
        """Ends the sessions of executions that have lost their lease, and waits for their end.

        Args:
            wait: How to wait, and whom to tell.

        Returns:
            What still goes on after all of the wait; empty if nothing does.
        """
        ended: set[str] = set()
        for destination in self._destinations:
            if blocked := wait.until_free(partial(self._end_lost, destination, ended)):
                return blocked
        if not ended or not self._silent:
            return ""
        until = time.monotonic() + SILENT_SECONDS
        engines = ", ".join(sorted({adapter.dialect for adapter in self._silent}))
        reason = (
            f"{_lost(ended)}; {engines} cannot be asked whether it still writes, "
            f"so it gets {SILENT_SECONDS:.0f} s to end"
        )
        return wait.until_free(lambda: reason if time.monotonic() < until else None)

    def _end_lost(self, destination: _Destination, ended: set[str]) -> str | None:
        """Tells executions that have lost their lease to end; who they are, none where all have."""
        with closing(destination.connect()) as connection:
            writers = destination.server.writers(connection, self._state)
            owned = self._lease.owned([writer.lock for writer in writers])
            lost = [writer for writer in writers if writer.lock not in owned]
            if not lost:
                return None
            now = {writer.of for writer in lost}
            ended |= now
            try:
                destination.server.end(connection, [writer.number for writer in lost])
            except Exception as error:  # noqa: BLE001 - told to whoever waits
                reason = str(error).partition("\n")[0]
                return f"{_lost(now)}, and what it writes cannot be ended: {reason}"
            return f"{_lost(now)}; what it writes is being ended"

    def _end_owned(self, destination: _Destination) -> None:
        with closing(destination.connect()) as connection:
            writers = destination.server.writers(connection, self._state)
            mine = [writer.number for writer in writers if writer.lock in self._owned]
            destination.server.end(connection, mine)

    def _mark(self, server: Server, connection: Any) -> None:
        server.mark(connection, self._state, self._run_id, self._own)
        self._lease.check()

    def _own(self, lock: str) -> bool:
        is_owned = self._lease.own(lock)
        if is_owned:
            self._owned.add(lock)
        return is_owned


def _lost(runs: Iterable[str]) -> str:
    return f"{', '.join(sorted(runs))} has lost its lease"
