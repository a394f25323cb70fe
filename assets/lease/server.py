"""Leases on single models, held in the server of SQLMesh's state.

PostgreSQL and MySQL have locks that belong to a session and end with it, however it ends. One
lock stands for each of some thousand groups of models, so that an execution of a large project
does not fill the server's table of locks; two models that share a group wait for each other once
in a while, and nothing worse.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ...config.errors import LeaseLost, LeaseTaken
from ..sqlmesh_internals import dbapi_connection, state_connection
from .fence import Fence
from .sessions import KINDS, Session, digest
from .waiting import Wait

if TYPE_CHECKING:
    from sqlmesh.core.context import Context
    from sqlmesh.core.engine_adapter.base import EngineAdapter

_GROUPS = 2048
_POLL_SECONDS = 0.5
CHECK_SECONDS = 2.0
"""How often the holder looks whether it still has the lease, also while a model is evaluated."""

_log = logging.getLogger(__name__)


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

    def guard(self, adapters: Iterable[EngineAdapter]) -> None:
        """Has what is written with these end where the lease is lost, before others write."""

    def check(self, *, now: bool = True) -> None:
        """Makes sure that it still holds what it holds.

        Args:
            now: Whether to ask the server even if it was asked a moment ago.

        Raises:
            LeaseLost: The server has ended the session.
        """

    @property
    def lost(self) -> bool:
        """Whether it no longer holds what it held."""
        return False


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
    lease = None
    try:
        lease = _ServerLease(
            kind(dbapi_connection(adapter), scope, run_id), environment, run_id, executions, wait
        )
        lease.enter()
        yield lease
    finally:
        if lease is not None:
            lease.leave()
        # Ends the session, and with it every lock.
        adapter.close()


class _ServerLease(ModelLease):
    def __init__(
        self, session: Session, environment: str, run_id: str, executions: int, wait: Wait
    ) -> None:
        self._session, self._run_id, self._wait = session, run_id, wait
        self._slots = [f"slot {environment} {number}" for number in range(executions)]
        self._slot: str | None = None
        self._held: list[str] = []
        self._checked = time.monotonic()
        self._is_lost = False
        # SQLMesh evaluates in threads of its own, and the watch is one more.
        self._lock = threading.RLock()
        self._fence = Fence(digest(session.place()).hex()[:8], run_id, self)
        self._left = threading.Event()
        self._watch = threading.Thread(
            target=self._look, name=f"sqlmesh-{run_id[:8]}-lease", daemon=True
        )

    def enter(self) -> None:
        def attempt() -> str | None:
            if self._session.take([f"run {self._run_id}"]):
                return "another process of this run executes SQLMesh"
            return None

        self._acquire(attempt)
        self._watch.start()

    def leave(self) -> None:
        self._left.set()
        if self._watch.is_alive():
            self._watch.join()
        self._fence.release()

    def guard(self, adapters: Iterable[EngineAdapter]) -> None:
        self._fence.guard(adapters)

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
        # Whoever had any of it before, and has it no longer, may not know that yet.
        self._refuse(self._fence.end_predecessors(self._wait))

    def check(self, *, now: bool = True) -> None:
        if now:
            is_lost = self.lost
        else:
            with self._lock:
                asked = time.monotonic() - self._checked < CHECK_SECONDS
                is_lost = self._is_lost if asked else self.lost
        if is_lost:
            raise LeaseLost

    def own(self, lock: str) -> bool:
        with self._lock:
            try:
                return not self._session.take([lock])
            except Exception as error:
                if self.lost:
                    raise LeaseLost from error
                raise

    def owned(self, locks: Sequence[str]) -> set[str]:
        with self._lock:
            return self._session.held(locks)

    @property
    def lost(self) -> bool:
        with self._lock:
            # For good: SQLMesh asks again before each of the models that are left.
            if not self._is_lost:
                self._is_lost = not self._session.alive()
                self._checked = time.monotonic()
            return self._is_lost

    def _look(self) -> None:
        """Looks after the lease until it is left; where it is lost, ends what is written."""
        while not self._left.wait(CHECK_SECONDS):
            try:
                self.check(now=False)
            except LeaseLost:
                self._fence.end_own(self._left)
                return
            except Exception:  # noqa: BLE001 - logged, and asked again
                _log.warning("Cannot ask for the lease of run %s", self._run_id, exc_info=True)

    def _acquire(self, attempt: Callable[[], str | None]) -> None:
        def attempt_alone() -> str | None:
            with self._lock:
                return attempt()

        self._refuse(self._wait.until_free(attempt_alone, _POLL_SECONDS))

    def _refuse(self, blocked: str) -> None:
        if blocked:
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
