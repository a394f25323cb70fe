"""Dagster's PostgreSQL storage with kept connections.

``dagster-postgres`` opens a connection for every event that it stores or reads, except in the
webserver. Tables stay Dagster's own; processes that use Dagster's class may use them at the same
time.
"""

from __future__ import annotations

import os
from functools import partial
from typing import Any

from dagster_postgres import (
    DagsterPostgresStorage,
    PostgresEventLogStorage,
    PostgresRunStorage,
    PostgresScheduleStorage,
)
from dagster_postgres.utils import pg_url_from_config
from sqlalchemy import create_engine
from sqlalchemy.engine import Engine

from ..dagster_internals import ConfigurableClassData
from .answers import KeptEventLogAnswers, KeptRunAnswers

_IDLE_SECONDS = 300
"""A connection that was kept longer than this is opened anew before it is used."""


class _EventLog(KeptEventLogAnswers, PostgresEventLogStorage):
    """Dagster's event log, through an engine of ours."""

    def __init__(self, url: str, engine: Engine) -> None:
        super().__init__(url, should_autocreate_tables=False)
        self._engine = engine

    def dispose(self) -> None:
        """Ends watchers and closes all connections; the next use opens new ones."""
        super().dispose()
        self._engine.dispose()


class _Runs(KeptRunAnswers, PostgresRunStorage):
    """Dagster's runs, through an engine of ours."""

    def __init__(self, url: str, engine: Engine) -> None:
        super().__init__(url, should_autocreate_tables=False)
        self._engine = engine


class _Schedules(PostgresScheduleStorage):
    """Dagster's schedules and sensors, through an engine of ours."""

    def __init__(self, url: str, engine: Engine) -> None:
        super().__init__(url, should_autocreate_tables=False)
        self._engine = engine


class PooledPostgresStorage(DagsterPostgresStorage):
    """Dagster's PostgreSQL storage, with one connection for each process that stays open.

    In ``dagster.yaml``, with the same configuration as before::

        storage:
          custom:
            module: dagster_sqlmesh_automation.storage
            class: PooledPostgresStorage
            config:
              postgres_url: {env: DAGSTER_POSTGRES_URL}

    Threads that need one at the same moment get more, which are closed after it. One that has gone
    meanwhile, as after a restart of the server, is noticed before it is used. The package has to be
    installed wherever Dagster runs, and ``dagster-postgres`` with it.
    """

    def __init__(
        self,
        postgres_url: str,
        should_autocreate_tables: bool = True,
        inst_data: ConfigurableClassData | None = None,
    ) -> None:
        # Creates the tables where there are none, with connections of its own.
        super().__init__(postgres_url, should_autocreate_tables, inst_data)
        engine = create_engine(
            postgres_url,
            isolation_level="AUTOCOMMIT",
            pool_size=1,
            max_overflow=-1,
            pool_pre_ping=True,
            pool_recycle=_IDLE_SECONDS,
        )
        # A forked process leaves the parent's connections alone.
        os.register_at_fork(after_in_child=partial(engine.dispose, close=False))
        self._run_storage = _Runs(postgres_url, engine)
        self._event_log_storage = _EventLog(postgres_url, engine)
        self._schedule_storage = _Schedules(postgres_url, engine)

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Any
    ) -> PooledPostgresStorage:
        """Made by Dagster from ``dagster.yaml``."""
        if config_value.get("auth_provider"):
            raise ValueError(
                "PooledPostgresStorage takes no auth_provider: its tokens are made for each "
                "connection. Use dagster_postgres.DagsterPostgresStorage, or a password"
            )
        return cls(
            pg_url_from_config(config_value),
            config_value.get("should_autocreate_tables", True),
            inst_data,
        )
