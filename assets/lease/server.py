"""Leases on single models, held in the server of SQLMesh's state.

PostgreSQL and MySQL have locks that belong to a session and end with it, however it ends. One
lock stands for each of some thousand groups of models, so that an execution of a large project
does not fill the server's table of locks; two models that share a group wait for each other once
in a while, and nothing worse.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ...config.errors import LeaseLost, LeaseTaken
from ..sqlmesh_internals import dbapi_connection, state_connection
from .sessions import KINDS, Session, digest
from .waiting import Wait

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
            models: Names of the models, by what identifies their physical table.

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
    connection = state_connection(context)
    kind = KINDS.get(connection.type_)
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
        session = kind(dbapi_connection(adapter), scope, run_id)
        lease = _ServerLease(session, environment, executions, wait)
        lease.enter(run_id)
        yield lease
    finally:
        # Ends the session, and with it every lock.
        adapter.close()


class _ServerLease(ModelLease):
    def __init__(self, session: Session, environment: str, executions: int, wait: Wait) -> None:
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
            identities = sorted(names)
            refused = self._session.take(identities)
            if not refused:
                self._held = identities
                return None
            # All or none: whoever waits with half of what it needs keeps others from all of it.
            self._session.release([key for key in identities if key not in refused])
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
            raise LeaseTaken(blocked, self._wait.place("lease_timeout_seconds"))

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
            f"limit ({self._wait.place('max_concurrent_executions')})"
        )

    def _leave_slot(self) -> None:
        if self._slot is not None:
            self._session.release([self._slot])
            self._slot = None


def _group(identity: str) -> str:
    return f"models {int.from_bytes(digest(identity)[:4]) % _GROUPS}"
