"""The same where what is written is on MySQL, for which MariaDB stands here."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlmesh import Context
from sqlmesh.core.config.connection import MySQLConnectionConfig
from sqlmesh.core.engine_adapter import EngineAdapter
from support.mariadb import INSTALLED, MariaDB, running_mariadb
from support.postgres import Database
from support.server_lease import ITEMS, ORDERS, STOCK, opened, run

from dagster_sqlmesh_automation.assets.lease import server as server_lease, writers
from dagster_sqlmesh_automation.assets.lease.waiting import Wait
from dagster_sqlmesh_automation.config.errors import LeaseLost, LeaseTaken

pymysql = pytest.importorskip("pymysql", reason="SQLMesh's driver for MySQL is not installed")

pytestmark = pytest.mark.skipif(not INSTALLED, reason="no MariaDB server is installed")

RUNNING = "SELECT 1 FROM information_schema.processlist WHERE state = 'User sleep'"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaDB]:
    with running_mariadb(tmp_path_factory.mktemp("mariadb")) as server:
        yield server


@pytest.fixture
def state(server: MariaDB, tmp_path: Path) -> dict[str, Any]:
    """Each test has a state of its own: a session ends a moment after its client has closed it."""
    return {"state_connection": server.sqlmesh, "state_schema": tmp_path.name}


@pytest.fixture(params=["mysql", "postgres"])
def context(
    state: dict[str, Any], request: pytest.FixtureRequest, database: Database, tmp_path: Path
) -> Context:
    """A project whose state is on the server, or on PostgreSQL."""
    place = state if request.param == "mysql" else {"state_connection": database.sqlmesh}
    return opened(tmp_path / "project", **place)


@pytest.fixture
def unaware(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks after its lease while a statement runs, as in a process that is stopped."""
    monkeypatch.setattr(server_lease, "CHECK_SECONDS", 3600)


def writer(server: MariaDB, **login: str) -> EngineAdapter:
    """An adapter that writes to the server."""
    return MySQLConnectionConfig(**server.sqlmesh | login).create_engine_adapter()


def end_lease(context: Context, server: MariaDB, database: Database, run_id: str) -> None:
    """Ends the session that holds a run's lease, wherever the state is."""
    if not database.drop_sessions(f"%automation run {run_id}"):
        server.end_lease(context.config.get_state_schema() or "", run_id)


@pytest.mark.usefixtures("unaware")
def test_a_successor_ends_who_has_lost_the_lease_and_nobody_else(
    context: Context, server: MariaDB, database: Database
) -> None:
    said: list[str] = []
    with (
        ThreadPoolExecutor(1) as pool,
        run(context, "4f1c", executions=3) as lost,
        run(context, "93d0", executions=3) as other,
        run(context, "7ab2", Wait(60, said.append), executions=3) as successor,
    ):
        adapters = {lost: writer(server), other: writer(server), successor: writer(server)}
        for lease, models in ((lost, ORDERS), (other, ITEMS)):
            lease.hold(models)
            lease.guard([adapters[lease]])
        adapters[other].fetchone("SELECT 1")
        adapters[lost].fetchone("SELECT 1")
        slow = pool.submit(adapters[lost].fetchone, "SELECT SLEEP(600)")
        while not server.query(RUNNING):
            time.sleep(0.02)
        end_lease(context, server, database, "4f1c")
        successor.guard([adapters[successor]])
        successor.hold(ORDERS | STOCK)
        with pytest.raises(pymysql.Error):
            slow.result(60)
        with pytest.raises(LeaseLost):
            adapters[lost].fetchone("SELECT 1")
        adapters[other].fetchone("SELECT 1")
    assert [re.sub(r"\d+", "N", message) for message in said] == [
        "Waiting: connection N, connection N has lost its lease; what it writes is being ended"
    ]


@pytest.mark.usefixtures("unaware")
def test_what_cannot_be_ended_is_told_and_not_taken_over(
    context: Context, server: MariaDB, database: Database
) -> None:
    """A user who may not end another user's sessions waits for their end."""
    server.query("CREATE OR REPLACE USER visitor IDENTIFIED BY 'visitor'")
    visitor = writer(server, user="visitor", password="visitor")
    with run(context, "4f1c") as lost, run(context, "7ab2", Wait(2)) as successor:
        lost.guard([adapter := writer(server)])
        lost.hold(ORDERS)
        adapter.fetchone("SELECT 1")
        end_lease(context, server, database, "4f1c")
        successor.guard([visitor])
        with pytest.raises(LeaseTaken, match=r"cannot be ended: .*You are not owner of thread"):
            successor.hold(ORDERS)


def test_no_more_sessions_write_than_there_are_places_to_see_them(
    context: Context, server: MariaDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writers, "PLACES", 2)
    with run(context, "4f1c") as lease, run(context, "93d0") as other:
        first, second, third = (writer(server) for _ in range(3))
        lease.guard([first, third])
        other.guard([second])
        for adapter in (first, second):
            adapter.fetchone("SELECT 1")
        with pytest.raises(RuntimeError, match="2 sessions already write to"):
            third.fetchone("SELECT 1")
