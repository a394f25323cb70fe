"""The sessions in which executions write: how database servers let others find and end them.

A session bears a mark on its own server: whose it is, in so far as the server has a place for
that. A lock of the lease stands for it, on the server of SQLMesh's state. A session that is marked
and whose lock nobody has is one of an execution that has lost its lease.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

PLACES = 1024
"""How many sessions of one state can write to one MySQL server at a time."""

_NO_SUCH_THREAD = 1094


@dataclass(frozen=True)
class Writer:
    """A session in which an execution writes.

    Attributes:
        number: What its server calls it.
        lock: Name of the lock that stands for it, which the lease of its execution has.
        of: Whose it is, in words.
    """

    number: int
    lock: str
    of: str


class Server(ABC):
    """How sessions of one kind of server are marked, found and ended."""

    @abstractmethod
    def mark(self, connection: Any, state: str, run_id: str, own: Callable[[str], bool]) -> None:
        """Marks the session of a connection, once its lock has been taken.

        Args:
            connection: The session.
            state: What tells the SQLMesh state from others.
            run_id: The Dagster run that executes.
            own: Takes a lock for the lease; returns whether it has it.
        """

    @abstractmethod
    def writers(self, connection: Any, state: str) -> Sequence[Writer]:
        """Returns all marked sessions of a state on the server that a connection leads to."""

    @abstractmethod
    def end(self, connection: Any, numbers: Collection[int]) -> None:
        """Tells sessions to end, with what they are doing."""


class _Postgres(Server):
    """The mark is the session's name, which ``pg_stat_activity`` shows to everybody."""

    # Processes get the numbers of earlier ones, but not under the same server's start.
    _START = "(extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint"

    def mark(self, connection: Any, state: str, run_id: str, own: Callable[[str], bool]) -> None:
        ((start, number),) = ask(connection, f"SELECT {self._START}, pg_backend_pid()")
        own(self._lock(start, number))
        name = f"{_prefix(state)}{run_id}"
        ask(connection, "SELECT set_config('application_name', %s, false)", [name])
        # The name would go with the transaction that is rolled back.
        connection.commit()

    def writers(self, connection: Any, state: str) -> Sequence[Writer]:
        prefix = _prefix(state)
        sessions = ask(
            connection,
            f"SELECT {self._START}, pid, application_name FROM pg_stat_activity "
            "WHERE left(application_name, %s) = %s",
            [len(prefix), prefix],
        )
        connection.commit()  # the view shows one moment for as long as a transaction lasts
        return [
            Writer(number, self._lock(start, number), f"run {name.removeprefix(prefix)}")
            for start, number, name in sessions
        ]

    def end(self, connection: Any, numbers: Collection[int]) -> None:
        ask(
            connection,
            "SELECT pg_terminate_backend(pid) FROM unnest(%s::int[]) AS ended(pid)",
            [list(numbers)],
        )
        connection.commit()

    def _lock(self, start: int, number: int) -> str:
        return f"writer postgres {start} {number}"


class _MySQL(Server):
    """The mark is a lock that the session has itself: any of some places that all can look at.

    No name of a session is shown to others by every version of MySQL and MariaDB, but who has a
    named lock is.
    """

    def mark(self, connection: Any, state: str, run_id: str, own: Callable[[str], bool]) -> None:
        ((host, port, number),) = ask(connection, "SELECT @@hostname, @@port, CONNECTION_ID()")
        # Most are free; whoever began with the first of them would try all that are not.
        for place in random.sample(range(PLACES), PLACES):
            # A lease that is older than the server's last start may still have the lock.
            if not own(self._lock(host, port, place, number)):
                continue
            taken = ask(connection, "SELECT GET_LOCK(%s, 0)", [f"{_prefix(state)}{place}"])
            if taken == [(1,)]:
                return
        raise RuntimeError(f"{PLACES} sessions already write to {host} for this SQLMesh state")

    def writers(self, connection: Any, state: str) -> Sequence[Writer]:
        places = [f"{_prefix(state)}{place}" for place in range(PLACES)]
        users = ", ".join(["IS_USED_LOCK(%s)"] * PLACES)
        ((host, port, *numbers),) = ask(connection, f"SELECT @@hostname, @@port, {users}", places)
        return [
            Writer(number, self._lock(host, port, place, number), f"connection {number}")
            for place, number in enumerate(numbers)
            if number is not None
        ]

    def end(self, connection: Any, numbers: Collection[int]) -> None:
        for number in numbers:
            try:
                ask(connection, f"KILL {number:d}")
            except Exception as error:
                if error.args[:1] != (_NO_SUCH_THREAD,):  # it has ended by itself
                    raise

    def _lock(self, host: str, port: int, place: int, number: int) -> str:
        return f"writer mysql {host} {port} {place} {number}"


SERVERS: Mapping[str, Server] = {"postgres": _Postgres(), "mysql": _MySQL()}
"""By SQLMesh's name of the dialect that an engine adapter speaks."""


def _prefix(state: str) -> str:
    return f"sqlmesh-writer {state} "


def ask(connection: Any, query: str, values: Any = ()) -> list[tuple[Any, ...]]:
    """Runs a statement on a DB-API connection and returns its rows."""
    with closing(connection.cursor()) as cursor:
        cursor.execute(query, values)
        return [tuple(row) for row in cursor.fetchall()]
