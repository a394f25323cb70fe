"""Leases on single models, held in the server of SQLMesh's state.

PostgreSQL and MySQL have locks that belong to a session and end with it, however it ends. One
lock stands for each of some thousand groups of models, so that an execution of a large project
does not fill the server's table of locks; two models that share a group wait for each other once
in a while, and nothing worse.
"""

from __future__ import annotations

import hashlib
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from ..config.errors import LeaseLost, LeaseTaken
from .lease import Wait

if TYPE_CHECKING:
    from sqlmesh.core.context import Context

_GROUPS = 2048
_POLL_SECONDS = 0.5
_CHECK_SECONDS = 5.0


class ModelLease:
    """The right to evaluate some models, where nothing has to be locked for it.

    On DuckDB the lock of the database covers all models. On an engine without session locks
    exclusivity rests on Dagster's limits for the run tag ``sqlmesh/environment``.
    """

    def hold(self, models: Mapping[str, str]) -> None:
        """Holds exactly these models from here on, waiting as long as others hold any of them.

        Args:
            models: Their names, by what identifies their physical table.

        Raises:
            LeaseTaken: The time is over, or the wait was given up.
        """

    def check(self) -> None:
        """Makes sure that it still holds what it holds.

        Raises:
            LeaseLost: The server has ended the session.
        """


@contextmanager
def model_lease(
    context: Context, environment: str, run_id: str, *, executions: int, wait: Wait
) -> Iterator[ModelLease]:
    """The lease of one run of an environment; nobody else of the run gets one meanwhile.

    Args:
        context: SQLMesh's, for its state connection.
        environment: The environment.
        run_id: The Dagster run, which others are told that wait.
        executions: How many runs may evaluate models of the environment at once.
        wait: How to wait.

    Raises:
        LeaseTaken: Another process of this run executes, and the wait was given up.
    """
    connection = context._state_connection_config
    kind = _KINDS.get(connection.type_)
    if kind is None:
        if connection.type_ != "duckdb":
            wait.say(
                f"No lease on a state in {connection.type_}: that two runs do not evaluate the "
                "same models rests on Dagster's tag concurrency limit for sqlmesh/environment"
            )
        yield ModelLease()
        return
    scope = context.config.get_state_schema(context.gateway) or ""
    adapter = connection.create_engine_adapter(concurrent_tasks=1)
    try:
        session = kind(adapter._connection_pool.get(), scope, run_id)
        lease = _ServerLease(session, environment, executions, wait)
        lease.enter(run_id)
        yield lease
    finally:
        # Ends the session, and with it every lock.
        adapter.close()


class _ServerLease(ModelLease):
    def __init__(self, session: _Session, environment: str, executions: int, wait: Wait) -> None:
        self._session, self._wait = session, wait
        self._slots = [f"slot {environment} {number}" for number in range(executions)]
        self._slot: str | None = None
        self._held: list[str] = []
        self._checked = time.monotonic()
        self._lost = False
        self._lock = threading.Lock()

    def enter(self, run_id: str) -> None:
        def attempt() -> str | None:
            if self._session.take([f"run {run_id}"]):
                return "another process of this run executes SQLMesh"
            return None

        self._acquire(attempt)

    def hold(self, models: Mapping[str, str]) -> None:
        names: dict[str, str] = {}
        for identity, name in models.items():
            names.setdefault(_group(identity), name)

        def attempt() -> str | None:
            self._session.release(self._held)
            self._held = []
            if (slot := self._take_slot()) is not None:
                return slot
            wanted = sorted(names)
            refused = self._session.take(wanted)
            if not refused:
                self._held = wanted
                return None
            # All or none: whoever waits with half of what it needs keeps others from all of it.
            self._session.release([key for key in wanted if key not in refused])
            self._leave_slot()
            first, *others = sorted(names[key] for key in refused)
            more = f" and {len(others)} more" if others else ""
            verb = "is" if not others else "are"
            return f"{first}{more} {verb} being evaluated by {self._session.holder(refused)}"

        self._acquire(attempt)

    def check(self) -> None:
        with self._lock:
            now = time.monotonic()
            if not self._lost and now - self._checked >= _CHECK_SECONDS:
                self._checked = now
                self._lost = not self._session.alive()
            # For good: SQLMesh asks again before each of the models that are left.
            if self._lost:
                raise LeaseLost

    def _acquire(self, attempt: Any) -> None:
        if blocked := self._wait.until_free(attempt, _POLL_SECONDS):
            raise LeaseTaken(blocked)

    def _take_slot(self) -> str | None:
        """Takes one of the environment's places, once; else tells who has them."""
        if self._slot is not None:
            return None
        for slot in self._slots:
            if not self._session.take([slot]):
                self._slot = slot
                return None
        holder = self._session.holder(self._slots)
        limit = len(self._slots)
        return (
            f"{holder} evaluates models, and {limit} execution{'s' * (limit != 1)} at once is the "
            "limit (SQLMESH_AUTOMATION_MAX_CONCURRENT_EXECUTIONS)"
        )

    def _leave_slot(self) -> None:
        if self._slot is not None:
            self._session.release([self._slot])
            self._slot = None


class _Session(ABC):
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
    def holder(self, names: Sequence[str]) -> str:
        """Who has any of the locks, in words."""

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


class _Postgres(_Session):
    """Advisory locks, which PostgreSQL knows by a number of 64 bits within one database."""

    _APPLICATION = "sqlmesh-automation run "

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

    def holder(self, names: Sequence[str]) -> str:
        found = self._ask(
            "SELECT DISTINCT application_name FROM pg_locks JOIN pg_stat_activity USING (pid) "
            "WHERE locktype = 'advisory' AND objsubid = 1 AND granted "
            "AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
            "AND ((classid::bigint << 32) | objid::bigint) = ANY(%s::bigint[])",
            [[self._number(name) for name in names]],
        )
        runs = sorted(name.removeprefix(self._APPLICATION) for (name,) in found if name)
        return f"run {', '.join(runs)}" if runs else "another session"

    def _number(self, name: str) -> int:
        return int.from_bytes(_digest(f"{self._scope} {name}")[:8], signed=True)


class _MySQL(_Session):
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

    def holder(self, names: Sequence[str]) -> str:
        ids = sorted({each for each in self._each("IS_USED_LOCK(%s)", names) if each is not None})
        return f"connection {', '.join(map(str, ids))}" if ids else "another session"

    def _each(self, call: str, names: Sequence[str]) -> Sequence[Any]:
        """The results of a function for each lock, in one statement.

        Who takes a thousand locks one by one is in the way of all others that try meanwhile.
        """
        if not names:
            return []
        calls = ", ".join([call] * len(names))
        return self._ask(f"SELECT {calls}", [self._name(name) for name in names])[0]

    def _name(self, name: str) -> str:
        return "sqlmesh-" + _digest(f"{self._state} {name}").hex()[:32]


_KINDS: Mapping[str, type[_Session]] = {
    "postgres": _Postgres,
    "gcp_postgres": _Postgres,
    "mysql": _MySQL,
}


def _group(identity: str) -> str:
    return f"models {int.from_bytes(_digest(identity)[:4]) % _GROUPS}"


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()
