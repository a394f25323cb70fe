"""Whoever takes models over ends the sessions of runs that have lost their lease, and no others."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import psycopg2
import pytest
from sqlmesh import Context
from sqlmesh.core.engine_adapter import EngineAdapter
from support.postgres import Database
from support.server_lease import ITEMS, ORDERS, STOCK, opened, run

from dagster_sqlmesh_automation.assets.lease import fence
from dagster_sqlmesh_automation.assets.lease.waiting import Wait
from dagster_sqlmesh_automation.assets.sqlmesh_internals import state_connection
from dagster_sqlmesh_automation.config.errors import LeaseLost, LeaseTaken


@pytest.fixture
def context(database: Database, tmp_path: Path) -> Context:
    return opened(tmp_path / "project", state_connection=database.sqlmesh)


def writer(context: Context) -> EngineAdapter:
    """An adapter that writes to the server of the state."""
    return state_connection(context).create_engine_adapter()


def writers(database: Database) -> list[str]:
    """Names of the runs that have sessions to write in."""
    sessions = database.query(
        "SELECT application_name FROM pg_stat_activity WHERE datname = current_database() "
        "AND application_name LIKE 'sqlmesh-writer %'"
    )
    return sorted(name.split()[-1] for (name,) in sessions)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_successor_ends_who_has_lost_the_lease_and_nobody_else(
    context: Context, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dagster_sqlmesh_automation.assets.lease.server.CHECK_SECONDS", 3600)
    said: list[str] = []
    with (
        run(context, "4f1c", executions=3) as lost,
        run(context, "93d0", executions=3) as other,
        run(context, "7ab2", Wait(60, said.append), executions=3) as successor,
    ):
        adapters = {lost: writer(context), other: writer(context), successor: writer(context)}
        for lease, models in ((lost, ORDERS), (other, ITEMS)):
            lease.hold(models)
            lease.guard([adapters[lease]])
            adapters[lease].fetchone("SELECT 1")
        assert writers(database) == ["4f1c", "93d0"]
        database.drop_sessions("%run 4f1c")
        successor.guard([adapters[successor]])
        successor.hold(ORDERS | STOCK)
        assert writers(database) == ["93d0"]
        adapters[other].fetchone("SELECT 1")
        with pytest.raises((psycopg2.Error, LeaseLost)):
            adapters[lost].fetchone("SELECT 1")
        adapters[lost].close()
        with pytest.raises(LeaseLost):
            adapters[lost].fetchone("SELECT 1")
    assert said == ["Waiting: run 4f1c has lost its lease; what it writes is being ended"]
    wait_for(lambda: not writers(database))


def test_an_earlier_process_of_the_same_run_is_ended(context: Context, database: Database) -> None:
    with run(context, "4f1c") as lost:
        lost.guard([earlier := writer(context)])
        lost.hold(ORDERS)
        earlier.fetchone("SELECT 1")
        database.drop_sessions("%run 4f1c")
        with run(context, "4f1c", Wait(60)) as successor:
            successor.guard([mine := writer(context)])
            mine.fetchone("SELECT 1")
            successor.hold(ORDERS)
            assert writers(database) == ["4f1c"]
            mine.fetchone("SELECT 1")


def test_what_a_run_writes_itself_is_let_be(context: Context, database: Database) -> None:
    """Warehouse and state are on one server, which is asked for each of them."""
    said: list[str] = []
    with run(context, "4f1c", Wait(60, said.append)) as lease:
        lease.guard([warehouse := writer(context), state := writer(context)])
        state.fetchone("SELECT 1")
        warehouse.fetchone("SELECT 1")
        lease.hold(ORDERS)
        assert writers(database) == ["4f1c", "4f1c"]
    assert said == []


def test_who_has_lost_the_lease_ends_its_own_statement(
    context: Context, database: Database
) -> None:
    with run(context, "4f1c") as lost:
        lost.guard([adapter := writer(context)])
        lost.hold(ORDERS)
        adapter.fetchone("SELECT 1")
        database.drop_sessions("%run 4f1c")
        with pytest.raises(psycopg2.Error):
            adapter.fetchone("SELECT pg_sleep(600)")


def test_who_has_lost_the_lease_closes_every_warehouse_that_cannot_be_asked(
    context: Context, database: Database
) -> None:
    def sessions() -> int:
        ((count,),) = database.query(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND application_name = '' AND pid <> pg_backend_pid()"
        )
        return int(count)

    with run(context, "4f1c") as lost:
        adapters = [writer(context), writer(context)]
        for adapter in adapters:
            adapter.dialect = "trino"
        lost.guard(adapters)
        for adapter in adapters:
            adapter.fetchone("SELECT 1")
        assert sessions() == 2
        database.drop_sessions("%run 4f1c")
        wait_for(lambda: not sessions())


def test_another_state_on_the_server_is_let_be(
    context: Context, database: Database, tmp_path: Path
) -> None:
    elsewhere = opened(
        tmp_path / "elsewhere", state_connection=database.sqlmesh, state_schema="elsewhere"
    )
    with run(context, "4f1c") as first:
        first.guard([adapter := writer(context)])
        first.hold(ORDERS)
        adapter.fetchone("SELECT 1")
        with run(elsewhere, "7ab2") as second:
            second.guard([writer(elsewhere)])
            second.hold(ORDERS)
        assert writers(database) == ["4f1c"]


def test_a_warehouse_that_cannot_be_asked_gets_time(
    context: Context, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fence, "SILENT_SECONDS", 1.5)
    said: list[str] = []
    with run(context, "4f1c") as lost, run(context, "7ab2", Wait(60, said.append)) as successor:
        lost.guard([state := writer(context)])
        lost.hold(ORDERS)
        state.fetchone("SELECT 1")
        warehouse = writer(context)
        warehouse.dialect = "trino"
        successor.guard([warehouse, writer(context)])
        database.drop_sessions("%run 4f1c")
        began = time.monotonic()
        successor.hold(ORDERS)
        assert time.monotonic() - began >= 1.5
    assert said[-1] == (
        "Waiting: run 4f1c has lost its lease; trino cannot be asked whether it still writes, "
        "so it gets 2 s to end"
    )


def test_what_cannot_be_ended_is_told_and_not_taken_over(
    context: Context, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A role that may not end another role's sessions waits for their end."""
    database.query("CREATE ROLE visitor LOGIN")
    with run(context, "4f1c") as lost, run(context, "7ab2", Wait(2)) as successor:
        monkeypatch.setattr("dagster_sqlmesh_automation.assets.lease.server.CHECK_SECONDS", 3600)
        lost.guard([adapter := writer(context)])
        lost.hold(ORDERS)
        adapter.fetchone("SELECT 1")
        visitor = state_connection(context).copy(update={"user": "visitor"})
        successor.guard([visitor.create_engine_adapter()])
        database.drop_sessions("%run 4f1c")
        with pytest.raises(LeaseTaken, match="what it writes cannot be ended: permission denied"):
            successor.hold(ORDERS)
