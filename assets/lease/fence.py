"""Keeps an execution that has lost its lease from writing.

A lock on a server ends with its session, and a session may end while the process that had it goes
on, in the middle of a statement. So the sessions in which an execution writes, to the warehouse and
to SQLMesh's state, have a name on their servers, and are ended from two sides: by the execution,
once it finds its lease lost, and by whoever takes its models over, before it evaluates any of them.
A session is named first and the lease looked at after that, so there is none that a successor
cannot see.
"""

from __future__ import annotations

import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from ..sqlmesh_internals import close_connections, connection_factory, on_connect
from .waiting import Wait

if TYPE_CHECKING:
    from sqlmesh.core.engine_adapter.base import EngineAdapter

SILENT_SECONDS = 60.0
"""How long a successor waits where it cannot ask the warehouse who writes: long enough for an
execution to notice that its lease is lost and to close its connections."""

_RETRY_SECONDS = 2.0

_log = logging.getLogger(__name__)


class _Server(ABC):
    """How sessions are named and ended on one kind of server, by their number there.

    Attributes:
        tells: Whether it shows the names of sessions to others.
    """

    tells: bool

    @abstractmethod
    def name(self, connection: Any, name: str) -> int:
        """Names the session of a connection and returns its number."""

    @abstractmethod
    def named(self, connection: Any, prefix: str) -> Mapping[int, str]:
        """Returns the names of all sessions of the server that begin so, by number."""

    @abstractmethod
    def end(self, connection: Any, sessions: Collection[int]) -> None:
        """Ends sessions, with what they are doing."""


class _Postgres(_Server):
    tells = True

    def name(self, connection: Any, name: str) -> int:
        query = "SELECT pg_backend_pid() FROM set_config('application_name', %s, false)"
        ((number,),) = _ask(connection, query, [name])
        # The name would go with the transaction that is rolled back.
        connection.commit()
        return int(number)

    def named(self, connection: Any, prefix: str) -> Mapping[int, str]:
        query = (
            "SELECT pid, application_name FROM pg_stat_activity "
            "WHERE left(application_name, %s) = %s"
        )
        sessions = dict(_ask(connection, query, [len(prefix), prefix]))
        connection.commit()  # the view shows one moment for as long as a transaction lasts
        return sessions

    def end(self, connection: Any, sessions: Collection[int]) -> None:
        _ask(
            connection,
            "SELECT pg_terminate_backend(pid) FROM unnest(%s::int[]) AS ended(pid)",
            [list(sessions)],
        )
        connection.commit()


class _MySQL(_Server):
    """Its sessions have no name that every version of MySQL and MariaDB shows to others."""

    tells = False

    def name(self, connection: Any, name: str) -> int:
        ((number,),) = _ask(connection, "SELECT CONNECTION_ID()")
        return int(number)

    def named(self, connection: Any, prefix: str) -> Mapping[int, str]:
        return {}

    def end(self, connection: Any, sessions: Collection[int]) -> None:
        # To kill one that has gone is an error.
        alive = _ask(connection, "SELECT id FROM information_schema.processlist")
        for number in sorted({int(number) for (number,) in alive} & set(sessions)):
            with closing(connection.cursor()) as cursor:
                cursor.execute(f"KILL {number:d}")


_SERVERS: Mapping[str, _Server] = {"postgres": _Postgres(), "mysql": _MySQL()}
"""By SQLMesh's name of the dialect that an engine adapter speaks."""


@dataclass
class _Writers:
    """The sessions of one engine adapter.

    Attributes:
        server: How they are named and ended.
        connect: Opens a connection that is none of them.
        numbers: Their numbers on the server.
    """

    server: _Server
    connect: Callable[[], Any]
    numbers: set[int] = field(default_factory=set)

    def end(self) -> None:
        with closing(self.connect()) as connection:
            self.server.end(connection, self.numbers)


class Fence:
    """The sessions in which one execution writes.

    Args:
        state: What tells this SQLMesh state from others, in eight characters.
        run_id: The Dagster run that executes.
        check: Raises an error where the lease is lost.
    """

    def __init__(self, state: str, run_id: str, check: Callable[[], None]) -> None:
        self._prefix, self._run_id, self._check = f"sqlmesh-writer {state} ", run_id, check
        self._writers: list[_Writers] = []
        self._adapters: list[EngineAdapter] = []
        self._silent: dict[str, EngineAdapter] = {}

    def guard(self, adapters: Iterable[EngineAdapter]) -> None:
        """Has these adapters write in named sessions, and open none once the lease is lost.

        Those that it has guarded before stay as they are: an execution begins anew with them after
        a plan, and sessions that are named twice would be taken for a predecessor's.
        """
        for adapter in adapters:
            if adapter.dialect == "duckdb" or any(adapter is each for each in self._adapters):
                continue  # of DuckDB, the lock on its file ends with the process
            server = _SERVERS.get(adapter.dialect)
            if server is None:
                on_connect(adapter, lambda connection: self._check())
            else:
                writers = _Writers(server, connection_factory(adapter))
                self._writers.append(writers)
                close_connections(adapter)  # those that are open have no name
                on_connect(adapter, partial(self._name, writers))
            self._adapters.append(adapter)
            if server is None or not server.tells:
                self._silent[adapter.dialect] = adapter

    def release(self) -> None:
        """Closes all of them, before others may have the lease."""
        for adapter in self._adapters:
            close_connections(adapter)

    def end_own(self, given_up: threading.Event) -> None:
        """Ends what they are doing, as the lease is lost; tries until it is given up."""
        left = [writers.end for writers in self._writers]
        # BigQuery's cancels its jobs; of the others a statement that runs may go on to its end.
        left += [adapter.close for adapter in self._silent.values() if adapter.dialect != "mysql"]
        while left:
            try:
                left[0]()
            except Exception:  # noqa: BLE001 - logged, and tried again
                _log.warning("Cannot end what this execution does in a database", exc_info=True)
                if given_up.wait(_RETRY_SECONDS):
                    return
            else:
                del left[0]

    def end_predecessors(self, has_lease: Callable[[str], bool], wait: Wait) -> str:
        """Ends the sessions of executions that have lost their lease, and waits for their end.

        Args:
            has_lease: Returns whether another run of this state has its lease.
            wait: How to wait, and whom to tell.

        Returns:
            What still goes on after all of the wait; empty if nothing does.
        """
        runs: set[str] = set()
        for writers in self._writers:
            if blocked := wait.until_free(partial(self._end_lost, writers, has_lease, runs)):
                return blocked
        if not runs or not self._silent:
            return ""
        until = time.monotonic() + SILENT_SECONDS
        reason = (
            f"{_lost(runs)}; {', '.join(sorted(self._silent))} cannot be asked whether it still "
            f"writes, so it gets {SILENT_SECONDS:.0f} s to end"
        )
        return wait.until_free(lambda: reason if time.monotonic() < until else None)

    def _end_lost(
        self, writers: _Writers, has_lease: Callable[[str], bool], runs: set[str]
    ) -> str | None:
        """Tells executions that have lost their lease to end; who they are, none where all have."""
        with closing(writers.connect()) as connection:
            sessions = writers.server.named(connection, self._prefix)
            of = {number: sessions[number].removeprefix(self._prefix) for number in sessions}
            leased = {run_id for run_id in {*of.values()} - {self._run_id} if has_lease(run_id)}
            lost = {number for number in of.keys() - writers.numbers if of[number] not in leased}
            if not lost:
                return None
            now = {of[number] for number in lost}
            runs |= now
            try:
                writers.server.end(connection, lost)
            except Exception as error:  # noqa: BLE001 - told to whoever waits
                reason = str(error).partition("\n")[0]
                return f"{_lost(now)}, and what it writes cannot be ended: {reason}"
            return f"{_lost(now)}; what it writes is being ended"

    def _name(self, writers: _Writers, connection: Any) -> None:
        name = f"{self._prefix}{self._run_id}"
        writers.numbers.add(writers.server.name(connection, name))
        self._check()


def _lost(runs: Iterable[str]) -> str:
    return f"run {', '.join(sorted(runs))} has lost its lease"


def _ask(connection: Any, query: str, values: Any = ()) -> list[tuple[Any, ...]]:
    with closing(connection.cursor()) as cursor:
        cursor.execute(query, values)
        return [tuple(row) for row in cursor.fetchall()]
