"""Sessions of database servers that have locks which end with the session."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any


class Session(ABC):
    """A session of a database server that has named locks."""

    def __init__(self, connection: Any, scope: str, run_id: str) -> None:
        self._connection, self._scope = connection, scope
        self._open(run_id)

    @abstractmethod
    def _open(self, run_id: str) -> None:
        """Prepares the session."""

    @abstractmethod
    def take(self, names: Sequence[str]) -> list[str]:
        """Tries to take locks without waiting; gives those that somebody else has."""

    @abstractmethod
    def release(self, names: Sequence[str]) -> None:
        """Gives locks back."""

    @abstractmethod
    def held(self, names: Sequence[str]) -> set[str]:
        """Those of the locks that any session has, this one included."""

    @abstractmethod
    def holder(self, names: Sequence[str]) -> str:
        """Who has any of the locks, in words."""

    @abstractmethod
    def place(self) -> str:
        """What tells this state from all others, whatever its server is called by its clients."""

    def alive(self) -> bool:
        """Whether the session still is."""
        try:
            return self._ask("SELECT 1") == [(1,)]
        except Exception as error:
            # PEP 249 gives every driver's errors this root; which one a lost session raises, not.
            if "Error" in {kind.__name__ for kind in type(error).__mro__}:
                return False
            raise

    def _ask(self, query: str, values: Any = ()) -> list[tuple[Any, ...]]:
        with closing(self._connection.cursor()) as cursor:
            cursor.execute(query, values)
            return [tuple(row) for row in cursor.fetchall()]


class _Postgres(Session):
    """Advisory locks, which PostgreSQL knows by a number of 64 bits within one database."""

    _APPLICATION = "sqlmesh-automation run "
    _KEY = "((classid::bigint << 32) | objid::bigint)"
    _GRANTED = (
        "locktype = 'advisory' AND objsubid = 1 AND granted "
        "AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
        f"AND {_KEY} = ANY(%s::bigint[])"
    )

    def _open(self, run_id: str) -> None:
        self._connection.autocommit = True
        self._ask("SELECT set_config('application_name', %s, false)", [self._APPLICATION + run_id])
        # A firewall drops sessions that are silent for long, and so may the server (version 14 on).
        # A batch may take hours, and the session says nothing meanwhile.
        self._ask(
            "SELECT set_config(name, CASE name WHEN 'tcp_keepalives_idle' THEN '30' ELSE '0' END, "
            "false) FROM pg_settings WHERE name IN ('tcp_keepalives_idle', 'idle_session_timeout')"
        )

    def take(self, names: Sequence[str]) -> list[str]:
        numbers = {self._number(name): name for name in names}
        tried = self._ask(
            "SELECT key, pg_try_advisory_lock(key) FROM unnest(%s::bigint[]) AS wanted(key)",
            [list(numbers)],
        )
        return sorted(numbers[key] for key, taken in tried if not taken)

    def release(self, names: Sequence[str]) -> None:
        if names:
            self._ask(
                "SELECT pg_advisory_unlock(key) FROM unnest(%s::bigint[]) AS held(key)",
                [[self._number(name) for name in names]],
            )

    def held(self, names: Sequence[str]) -> set[str]:
        numbers = {self._number(name): name for name in names}
        query = f"SELECT {self._KEY} FROM pg_locks WHERE {self._GRANTED}"
        return {numbers[key] for (key,) in self._ask(query, [list(numbers)])}

    def holder(self, names: Sequence[str]) -> str:
        applications = self._ask(
            "SELECT DISTINCT application_name FROM pg_locks JOIN pg_stat_activity USING (pid) "
            f"WHERE {self._GRANTED}",
            [[self._number(name) for name in names]],
        )
        runs = sorted(name.removeprefix(self._APPLICATION) for (name,) in applications if name)
        return f"run {', '.join(runs)}" if runs else "another session"

    def place(self) -> str:
        ((database, may_ask),) = self._ask(
            "SELECT oid, has_function_privilege('pg_control_system()', 'execute') "
            "FROM pg_database WHERE datname = current_database()"
        )
        server = "SELECT system_identifier FROM pg_control_system()" if may_ask else "SELECT 0"
        return f"{self._ask(server)[0][0]} {database} {self._scope}"

    def _number(self, name: str) -> int:
        return int.from_bytes(digest(f"{self._scope} {name}")[:8], signed=True)


class _MySQL(Session):
    """``GET_LOCK``, whose names are the server's and not a database's."""

    def _open(self, run_id: str) -> None:
        # The session is silent for as long as a batch takes.
        self._ask("SET SESSION wait_timeout = 31536000")
        # Schemas are databases there. A state without one is in the connection's own.
        self._state = self._scope or str(self._ask("SELECT DATABASE()")[0][0])

    def take(self, names: Sequence[str]) -> list[str]:
        taken = self._each("GET_LOCK(%s, 0)", names)
        return [name for name, result in zip(names, taken, strict=True) if result != 1]

    def release(self, names: Sequence[str]) -> None:
        self._each("RELEASE_LOCK(%s)", names)

    def held(self, names: Sequence[str]) -> set[str]:
        users = self._each("IS_USED_LOCK(%s)", names)
        return {name for name, user in zip(names, users, strict=True) if user is not None}

    def holder(self, names: Sequence[str]) -> str:
        ids = sorted({*self._each("IS_USED_LOCK(%s)", names)} - {None})
        return f"connection {', '.join(map(str, ids))}" if ids else "another session"

    def place(self) -> str:
        ((host, port),) = self._ask("SELECT @@hostname, @@port")
        return f"{host} {port} {self._state}"

    def _each(self, call: str, names: Sequence[str]) -> Sequence[Any]:
        """The results of a function for each lock, in one statement.

        Who takes a thousand locks one by one is in the way of all others that try meanwhile.
        """
        if not names:
            return []
        calls = ", ".join([call] * len(names))
        return self._ask(f"SELECT {calls}", [self._name(name) for name in names])[0]

    def _name(self, name: str) -> str:
        return "sqlmesh-" + digest(f"{self._state} {name}").hex()[:32]


KINDS: Mapping[str, type[Session]] = {
    "postgres": _Postgres,
    "gcp_postgres": _Postgres,
    "mysql": _MySQL,
}
"""The session by SQLMesh's type of the state's connection."""


def digest(text: str) -> bytes:
    """Sixteen bytes that stand for a text."""
    return hashlib.blake2b(text.encode(), digest_size=16).digest()
