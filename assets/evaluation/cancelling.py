"""Cancels what SQLMesh has its databases do, from another thread than the one that waits for it.

Each engine has its own way. Those of PostgreSQL, MySQL and DuckDB are tested on the real thing;
those of BigQuery, Snowflake and Databricks are written from their drivers' documentation.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any

from ..sqlmesh_internals import (
    OpenConnection,
    connection_factory,
    open_connections,
    share_connections,
)

if TYPE_CHECKING:
    from sqlmesh.core.engine_adapter.base import EngineAdapter

Connect = Callable[[], Any]
"""Opens a further connection to the same database."""


class Statements:
    """What the connections of some engine adapters are doing.

    Args:
        adapters: The adapters with which models are evaluated.
        state: The adapter of SQLMesh's state, which may share its connections with one of them.
    """

    def __init__(self, adapters: Iterable[EngineAdapter], state: EngineAdapter) -> None:
        self._state = state
        self._adapters = [(adapter, connection_factory(adapter)) for adapter in adapters]

    def cancel(self, thread: int) -> None:
        """Cancels what a thread is doing, where its engine has a way to.

        Args:
            thread: The thread's ident.

        Raises:
            Exception: What the driver raises where the database is out of reach.
        """
        for adapter, connect in self._adapters:
            cancel = _ENGINES.get(adapter.dialect)
            for connection in open_connections(adapter) if cancel is not None else ():
                if cancel is not None and connection.thread in {thread, None}:
                    cancel(connection, connect)

    def cancel_others(self, threads: Collection[int]) -> None:
        """Cancels what all other threads are doing, but for what SQLMesh writes to its state.

        Args:
            threads: The idents of the threads that are left alone.
        """
        others = {
            connection.thread
            for adapter, _ in self._adapters
            if not share_connections(adapter, self._state)
            for connection in open_connections(adapter)
        }
        for thread in others - {None, *threads}:
            assert thread is not None
            self.cancel(thread)


def _postgres(open_: OpenConnection, connect: Connect) -> None:
    # Not psycopg2's own cancel(), which keeps all of the process waiting for the server.
    if not open_.connection.closed:
        number = open_.connection.get_backend_pid()
        _execute(connect, "SELECT pg_cancel_backend(%s)", [number])


def _mysql(open_: OpenConnection, connect: Connect) -> None:
    if open_.connection.open:
        _execute(connect, f"KILL QUERY {open_.connection.thread_id():d}")


def _duckdb(open_: OpenConnection, connect: Connect) -> None:
    # A cursor is a connection of its own to it; the one that it was made from is idle.
    if open_.cursor is not None:
        open_.cursor.interrupt()


def _bigquery(open_: OpenConnection, connect: Connect) -> None:
    if (job := open_.attributes.get("query_job")) is not None:
        job.cancel()


def _snowflake(open_: OpenConnection, connect: Connect) -> None:
    # In the same session, as threads may share one: a further login may ask a person.
    with closing(open_.connection.cursor()) as cursor:
        cursor.execute("SELECT SYSTEM$CANCEL_ALL_QUERIES(%s)", (open_.connection.session_id,))


def _databricks(open_: OpenConnection, connect: Connect) -> None:
    # Its cursors have the method over the SQL connector, not over a Spark session.
    if hasattr(open_.cursor, "cancel"):
        open_.cursor.cancel()


def _execute(connect: Connect, statement: str, values: Any = None) -> None:
    with closing(connect()) as connection, closing(connection.cursor()) as cursor:
        cursor.execute(statement, values)


_ENGINES: Mapping[str, Callable[[OpenConnection, Connect], None]] = {
    "postgres": _postgres,
    "mysql": _mysql,
    "duckdb": _duckdb,
    "bigquery": _bigquery,
    "snowflake": _snowflake,
    "databricks": _databricks,
}
"""By SQLMesh's name of the dialect that an engine adapter speaks."""
