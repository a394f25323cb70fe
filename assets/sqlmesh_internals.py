"""The one door to what SQLMesh keeps private: each a small function with its reason.

It takes SQLMesh's objects as they are handed to it and imports nothing of SQLMesh. An upgrade that
renames one of these attributes breaks this file, and the tests that its functions name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlmesh.core.audit import StandaloneAudit
    from sqlmesh.core.config.connection import ConnectionConfig
    from sqlmesh.core.context import Context
    from sqlmesh.core.engine_adapter.base import EngineAdapter
    from sqlmesh.core.model import Model
    from sqlmesh.core.scheduler import Scheduler
    from sqlmesh.core.snapshot import Snapshot
    from sqlmesh.core.state_sync import StateSync


def source_file(node: Model | StandaloneAudit) -> Path | None:
    """The file that defines a model or an audit; ``None`` for one that was made without a file.

    Noticed by ``tests/definitions/test_metadata.py``.
    """
    return node._path


def state_connection(context: Context) -> ConnectionConfig:
    """The connection of SQLMesh's state, which may be another one than the warehouse's.

    Public is only ``context.connection_config``, the warehouse's. Noticed by
    ``tests/lease/test_server.py``.
    """
    return context._state_connection_config


def state_is_open(context: Context) -> bool:
    """Whether the context has opened its state, which has created or checked its tables.

    Reading ``context.state_sync`` opens it. Noticed by ``tests/facts/test_due.py``.
    """
    return context._state_sync is not None


@contextmanager
def unmigrated_state(context: Context) -> Iterator[StateSync]:
    """The state without its tables being created, closed at the end.

    ``context.state_sync`` would create them in a database that has none. Noticed by
    ``tests/cli/test_bad_input.py``.
    """
    state = context._new_state_sync()
    try:
        yield state
    finally:
        state.close()


def load_materializations(context: Context) -> None:
    """Loads custom materializations from the project's files, without its models.

    Public is only ``context.load``, which loads all of the project. Noticed by
    ``tests/execution/test_outcomes.py``.
    """
    context._load_materializations()


def guard_signals(scheduler: Scheduler, raised: Callable[[Snapshot, BaseException], None]) -> None:
    """Has a scheduler go on where a model's signals raise, with all of its intervals as ready.

    Public is only the loop over all models, which ends there. Noticed by
    ``tests/execution/test_signals.py``.

    Args:
        scheduler: The scheduler that is to ask the signals.
        raised: Takes the model and what was raised.
    """
    original = scheduler._check_ready_intervals

    def check(snapshot: Snapshot, intervals: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return original(snapshot, intervals, *args, **kwargs)
        # A signal is the user's own code, which may raise anything, or call exit().
        except (Exception, SystemExit) as error:  # noqa: BLE001 - handed on
            raised(snapshot, error)
            return intervals

    scheduler._check_ready_intervals = check  # type: ignore[method-assign]


def set_default_catalog(adapter: EngineAdapter, catalog: str) -> None:
    """Tells an adapter the default catalog, so that it does not ask the database for it.

    DuckDB would create the file to answer. Noticed by ``tests/project/test_manifest.py``.
    """
    adapter._default_catalog = catalog


def dbapi_connection(adapter: EngineAdapter) -> Any:
    """The DB-API connection of this thread, for statements about the session itself.

    Noticed by ``tests/lease/test_server.py``.
    """
    return adapter._connection_pool.get()


def writing_adapters(context: Context) -> list[EngineAdapter]:
    """The adapters with which a context writes: to each gateway's warehouse, and to the state.

    Private is only the state's. Noticed by ``tests/execution/test_fence.py``.
    """
    state: Any = context.state_sync
    adapter: EngineAdapter = getattr(state, "state_sync", state).engine_adapter
    return [*context.snapshot_evaluator.adapters.values(), adapter]


def connection_factory(adapter: EngineAdapter) -> Callable[[], Any]:
    """What opens a connection of an adapter that its pool does not know.

    Noticed by ``tests/execution/test_fence.py``.
    """
    pool: Any = adapter._connection_pool
    connect: Callable[[], Any] = pool._connection_factory
    return connect


def on_connect(adapter: EngineAdapter, prepare: Callable[[Any], None]) -> None:
    """Has something done with each new connection of an adapter's pool before it is used.

    An error of it is the error of whoever wanted the connection. Adapters that share the pool, as
    SQLMesh makes them, share this. Noticed by ``tests/execution/test_fence.py``.
    """
    pool: Any = adapter._connection_pool
    connect = connection_factory(adapter)

    def prepared() -> Any:
        connection = connect()
        try:
            prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    pool._connection_factory = prepared


def close_connections(adapter: EngineAdapter) -> None:
    """Closes all connections of an adapter's pool, of every thread.

    An adapter's own ``close`` does more, such as to cancel jobs. Noticed by
    ``tests/execution/test_fence.py``.
    """
    adapter._connection_pool.close_all()


@dataclass(frozen=True)
class OpenConnection:
    """A DB-API connection of an adapter's pool.

    Noticed by ``tests/execution/test_limits.py``.

    Attributes:
        thread: The ident of the thread that it belongs to; ``None`` where all of the pool's one
            user does goes over it.
        connection: The connection, which threads may share on some engines.
        cursor: The thread's cursor, where it has one.
        attributes: What SQLMesh keeps with it, such as BigQuery's job.
    """

    thread: int | None
    connection: Any
    cursor: Any
    attributes: Mapping[str, Any]


def open_connections(adapter: EngineAdapter) -> list[OpenConnection]:
    """The connections of an adapter, of every thread.

    Public is only the calling thread's. The pool's locks are not taken: a thread has them while it
    connects. Noticed by ``tests/execution/test_limits.py``.
    """
    pool: Any = adapter._connection_pool
    if not hasattr(pool, "_thread_cursors"):
        only = OpenConnection(None, pool._connection, pool._cursor, pool._attributes)
        return [only] if only.connection is not None else []
    cursors, attributes = dict(pool._thread_cursors), dict(pool._thread_attributes)
    by_thread = getattr(pool, "_thread_connections", None)
    connections = dict.fromkeys(cursors, pool._connection) if by_thread is None else dict(by_thread)
    return [
        OpenConnection(thread, connection, cursors.get(thread), attributes.get(thread, {}))
        for thread, connection in connections.items()
    ]


def share_connections(first: EngineAdapter, second: EngineAdapter) -> bool:
    """Whether two adapters have one pool, as SQLMesh's state and warehouse in one DuckDB file.

    Noticed by ``tests/execution/test_limits.py``.
    """
    return first._connection_pool is second._connection_pool
