"""A real MariaDB, where its server is installed: as SQLMesh's state or warehouse."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dagster_sqlmesh_automation.assets.lease.sessions import digest

# Debian has servers where only root looks.
_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"])
_TOOLS = [shutil.which(tool, path=_PATH) for tool in ("mariadbd", "mariadb-install-db")]

INSTALLED = all(_TOOLS)
"""Whether the server's programs are there."""


class MariaDB:
    """A MariaDB server that nobody else uses.

    Attributes:
        sqlmesh: As a connection of SQLMesh's configuration, which takes no socket's path.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(exist_ok=True)
        self._daemon, install = map(str, _TOOLS)
        quiet = ["--auth-root-authentication-method=normal", "--skip-test-db"]
        subprocess.run([install, *self._common, *quiet], check=True, stdout=subprocess.DEVNULL)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        login = {"user": "root", "password": ""}
        self.sqlmesh = {"type": "mysql", "host": "127.0.0.1", "port": port, **login}
        self.start()

    def start(self) -> None:
        """Starts it where it was, and waits until it answers."""
        port, folder = self.sqlmesh["port"], self._folder
        listen = ["--bind-address=127.0.0.1", f"--port={port}", f"--socket={folder / 'socket'}"]
        files = [f"--pid-file={folder / 'pid'}", f"--log-error={folder / 'log'}"]
        self._process = subprocess.Popen([self._daemon, *self._common, *listen, *files])
        deadline = time.monotonic() + 60
        while not self._answers():
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.1)

    def kill(self) -> None:
        """Ends it as a crash of its machine would."""
        self._process.kill()
        self._process.wait()

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Runs a statement, which commits, and returns its rows."""
        with self.connect() as session, session.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall())

    def connect(self) -> Any:
        """A session, each of whose statements commits."""
        import pymysql

        values = {key: value for key, value in self.sqlmesh.items() if key != "type"}
        return pymysql.connect(**values, autocommit=True)

    def end_lease(self, state_schema: str, run_id: str) -> None:
        """Ends the session that holds a run's lease, in a state here."""
        name = f"sqlmesh-{digest(f'{state_schema} run {run_id}').hex()[:32]}"
        ((session,),) = self.query(f"SELECT IS_USED_LOCK('{name}')")
        self.query(f"KILL {session}")
        while self.query(f"SELECT IS_USED_LOCK('{name}')") == [(session,)]:
            time.sleep(0.01)

    @property
    def _common(self) -> list[str]:
        return [
            "--no-defaults",
            f"--datadir={self._folder / 'data'}",
            f"--user={getpass.getuser()}",
        ]

    def _answers(self) -> bool:
        import pymysql

        try:
            return self.query("SELECT 1") == [(1,)]
        except pymysql.err.OperationalError:
            return False


@contextmanager
def running_mariadb(folder: Path) -> Iterator[MariaDB]:
    """A new server, killed at the end."""
    server = MariaDB(folder)
    try:
        yield server
    finally:
        server.kill()
