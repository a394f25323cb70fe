"""The lease in SQLMesh's state on MySQL, for which MariaDB stands here."""

from __future__ import annotations

import random
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from sqlmesh import Context
from support.mariadb import INSTALLED, MariaDB, running_mariadb
from support.server_lease import HOLD, ITEMS, ORDERS, STOCK, opened, run

from dagster_sqlmesh_automation.assets.lease import server as server_lease
from dagster_sqlmesh_automation.assets.lease.waiting import Wait
from dagster_sqlmesh_automation.assets.sqlmesh_internals import state_connection
from dagster_sqlmesh_automation.config.errors import LeaseLost, LeaseTaken

pymysql = pytest.importorskip("pymysql", reason="SQLMesh's driver for MySQL is not installed")

pytestmark = pytest.mark.skipif(not INSTALLED, reason="no MariaDB server is installed")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaDB]:
    with running_mariadb(tmp_path_factory.mktemp("mariadb")) as server:
        yield server


@pytest.fixture
def context(server: MariaDB, tmp_path: Path) -> Context:
    # Each test has a state of its own: a session ends a moment after its client has closed it.
    return opened(tmp_path / "project", state_connection=server.sqlmesh, state_schema=tmp_path.name)


def test_sqlmesh_keeps_its_state_there(context: Context) -> None:
    context.state_sync.migrate()
    assert context.state_sync.get_versions().schema_version > 0
    with run(context, "4f1c") as lease:
        lease.hold(ORDERS)
        assert context.state_sync.get_environments() == []


def test_one_run_at_a_time_where_the_limit_is_one(context: Context) -> None:
    with run(context, "4f1c", executions=1) as first, run(context, "7ab2", executions=1) as second:
        first.hold(ORDERS)
        with pytest.raises(LeaseTaken, match=r"connection \d+ evaluates models, and 1 execution"):
            second.hold(ITEMS)
    same = "another process of this run executes SQLMesh"
    with run(context, "93d0"), pytest.raises(LeaseTaken, match=same), run(context, "93d0"):
        pytest.fail("the first process lives")


def test_models_are_held_all_or_none_and_replace_those_held_before(context: Context) -> None:
    with (
        run(context, "4f1c") as first,
        run(context, "93d0") as third,
        run(context, "7ab2", Wait(0.2, say=lambda message: third.hold(ITEMS))) as second,
    ):
        first.hold(STOCK)
        first.hold(ORDERS)
        with pytest.raises(LeaseTaken, match="limit"):
            second.hold(ORDERS | ITEMS | STOCK)
        with pytest.raises(LeaseTaken, match=r"shop\.items is being evaluated by connection \d+"):
            first.hold(ITEMS)
        third.hold(ORDERS | ITEMS | STOCK)


def test_what_a_killed_process_held_is_free_at_once(context: Context) -> None:
    command = [sys.executable, "-c", HOLD, str(context.path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with run(context, "7ab2") as second, pytest.raises(LeaseTaken):
            second.hold(ORDERS)
        process.send_signal(signal.SIGKILL)
        process.wait()
        with run(context, "4f1c", Wait(10), executions=1) as successor:
            successor.hold(ORDERS)


def test_a_lease_whose_session_has_ended_is_lost_for_good_and_ends_what_is_written(
    context: Context, server: MariaDB
) -> None:
    with run(context, "4f1c", executions=1) as lost, ThreadPoolExecutor(1) as pool:
        lost.hold(ORDERS)
        pool.submit(lost.check).result()
        writer = state_connection(context).create_engine_adapter()
        lost.guard([writer])
        slow = pool.submit(writer.fetchone, "SELECT SLEEP(600)")
        with run(context, "93d0") as curious, pytest.raises(LeaseTaken) as caught:
            curious.hold(ORDERS)
        (session,) = re.findall(r"connection (\d+)", str(caught.value))
        server.query(f"KILL {session}")
        for now in (True, True, False):
            with pytest.raises(LeaseLost):
                lost.check(now=now)
        with pytest.raises(pymysql.Error):
            slow.result(60)
        with run(context, "7ab2", Wait(10), executions=1) as other:
            other.hold(ORDERS)


def test_whoever_contends_for_a_thousand_models_gets_through(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_lease, "_POLL_SECONDS", 0.02)
    inside: list[str] = []
    found: list[int] = []

    def contend(run_id: str) -> None:
        numbers = random.Random(run_id).sample(range(1_000), 600)
        with run(context, run_id, Wait(120), executions=8) as lease:
            start.wait()
            lease.hold({f"table {each}": f"shop.model_{each}" for each in numbers})
            inside.append(run_id)
            found.append(len(inside))
            inside.remove(run_id)

    start = threading.Barrier(8)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(contend, "abcdefgh"))
    assert found == [1] * 8


def test_the_same_state_is_one_whatever_database_a_connection_begins_in(
    context: Context, server: MariaDB, tmp_path: Path
) -> None:
    context.state_sync.migrate()
    place = {
        "state_connection": server.sqlmesh | {"database": "mysql"},
        "state_schema": tmp_path.name,
    }
    other = opened(tmp_path / "other", **place)
    # Context.state_sync would make the tables where there are none.
    assert other._new_state_sync().get_versions(validate=False).schema_version > 0
    with run(context, "4f1c") as first, run(other, "7ab2") as second:
        first.hold(ORDERS)
        with pytest.raises(LeaseTaken, match=r"shop\.orders is being evaluated"):
            second.hold(ORDERS)


def test_two_states_on_one_server_do_not_exclude_each_other(
    context: Context, server: MariaDB, tmp_path: Path
) -> None:
    places: list[dict[str, Any]] = [
        {"state_connection": server.sqlmesh, "state_schema": "another"},
        {"state_connection": server.sqlmesh | {"database": "mysql"}, "state_schema": None},
        {"state_connection": server.sqlmesh | {"database": "sys"}, "state_schema": None},
    ]
    with ExitStack() as runs:
        runs.enter_context(run(context, "4f1c", executions=1)).hold(ORDERS)
        for number, place in enumerate(places):
            state = opened(tmp_path / f"{number}", **place)
            runs.enter_context(run(state, "4f1c", executions=1)).hold(ORDERS)
