"""Dagster's SQLite storage with kept connections.

Dagster 1.13 makes an engine and opens a connection for every event that it stores or reads
(``SqliteEventLogStorage._connect``, ``SqliteRunStorage.connect``). A run of 200 small models uses
some 2,000: that was the largest single cost of such a run (``docs/benchmarks.md``). Files and
tables stay Dagster's own; a process that uses Dagster's class may open them at the same time.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import create_engine
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.pool import QueuePool

from ..dagster_internals import (
    SQLITE_BUSY_TIMEOUT_SECONDS,
    ConfigurableClassData,
    DagsterSqliteStorage,
    SqliteEventLogStorage,
    SqliteRunStorage,
    sqlite_directories,
)
from .answers import KeptEventLogAnswers, KeptRunAnswers

MOST_KEPT = 16
"""So many databases stay open at once; each run's events are in one of their own."""


class _Engines:
    """One engine for each database file, with connections that stay open.

    A forked process makes its own: SQLite's connections must not cross a fork.
    """

    def __init__(self) -> None:
        self._engines: OrderedDict[str, Engine] = OrderedDict()
        self._pid = os.getpid()
        self._lock = threading.Lock()

    def of(self, url: str) -> Engine:
        """The engine of a database."""
        with self._lock:
            if self._pid != os.getpid():
                # The parent's are left alone: closing a file here would drop the parent's locks.
                self._engines, self._pid = OrderedDict(), os.getpid()
            if url not in self._engines:
                self._engines[url] = create_engine(
                    url,
                    poolclass=QueuePool,
                    pool_size=1,
                    max_overflow=-1,
                    connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS},
                )
            self._engines.move_to_end(url)
            if len(self._engines) > MOST_KEPT:
                # Connections that are in use close when they are handed back.
                self._engines.popitem(last=False)[1].dispose()
            return self._engines[url]

    def close(self) -> None:
        """Closes all connections; the next use opens new ones."""
        with self._lock:
            if self._pid == os.getpid():
                for engine in self._engines.values():
                    engine.dispose()
            self._engines = OrderedDict()


class _EventLogStorage(KeptEventLogAnswers, SqliteEventLogStorage):
    """Dagster's event log in SQLite, with a kept connection for each run's file."""

    def __init__(self, base_dir: str) -> None:
        self._engines = _Engines()
        super().__init__(base_dir)

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        with self._db_lock:
            url = self.conn_string_for_shard(shard)
            if shard in self._initialized_dbs and not os.path.exists(self.path_for_shard(shard)):  # noqa: PTH110
                # Wiped by another process: a kept connection would write into the deleted file.
                self._engines.close()
                self._answers.forget()
                self._initialized_dbs.discard(shard)
            engine = self._engines.of(url)
            if shard not in self._initialized_dbs:
                self._initdb(engine)
                self._initialized_dbs.add(shard)
            with engine.connect() as connection, connection.begin():
                yield connection

    def wipe(self) -> None:
        """Deletes all events, and closes the connections to the files that are deleted."""
        self._engines.close()
        super().wipe()

    def dispose(self) -> None:
        """Ends watchers and closes all connections."""
        super().dispose()
        self._engines.close()


class _RunStorage(KeptRunAnswers, SqliteRunStorage):
    """Dagster's runs in SQLite, with a kept connection."""

    def __init__(self, conn_string: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._engines = _Engines()
        super().__init__(conn_string, inst_data)

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """A connection in a transaction."""
        with self._engines.of(self._conn_string).connect() as connection, connection.begin():
            yield connection

    def dispose(self) -> None:
        """Closes the connection."""
        super().dispose()
        self._engines.close()


class PooledSqliteStorage(DagsterSqliteStorage):
    """Dagster's SQLite storage, with connections that stay open.

    In ``dagster.yaml``, with the same folder as before::

        storage:
          custom:
            module: dagster_sqlmesh_automation.storage
            class: PooledSqliteStorage
            config:
              base_dir: /srv/dagster

    The package has to be installed wherever Dagster runs: webserver, daemon, code servers.
    """

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(base_dir, inst_data)
        runs, events = sqlite_directories(base_dir)
        self._run_storage = _RunStorage.from_local(runs)
        self._event_log_storage = _EventLogStorage(events)

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Any
    ) -> PooledSqliteStorage:
        """Made by Dagster from ``dagster.yaml``."""
        return cls.from_local(inst_data=inst_data, **config_value)
