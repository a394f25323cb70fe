"""The lease in SQLMesh's state on PostgreSQL: exclusive, and free when its holder is gone."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from sqlmesh import Context
from support.postgres import Database
from support.server_lease import HOLD, ITEMS, ORDERS, STOCK, opened, run

from dagster_sqlmesh_automation.assets.lease import server as server_lease
from dagster_sqlmesh_automation.assets.lease.waiting import Wait
from dagster_sqlmesh_automation.config.errors import LeaseLost, LeaseTaken


def is_released(database: Database) -> bool:
    """Whether nothing is locked; a session ends a moment after its client has closed it."""
    deadline = time.monotonic() + 10
    while (locked := database.locks()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not locked


@pytest.fixture
def context(database: Database, tmp_path: Path) -> Context:
    return opened(tmp_path / "project", state_connection=database.sqlmesh)


def test_a_second_run_of_an_environment_says_once_whom_it_waits_for_and_gives_up(
    context: Context,
) -> None:
    said: list[str] = []
    limit = "run 4f1c evaluates models, and 1 execution at once is the limit (SQLMESH_AUTOMATION_"
    with (
        run(context, "4f1c", executions=1) as first,
        run(context, "7ab2", Wait(1.2, said.append), executions=1) as second,
    ):
        first.hold(ORDERS)
        began = time.monotonic()
        with pytest.raises(LeaseTaken) as caught:
            second.hold(ITEMS)
        assert 1.2 <= time.monotonic() - began < 30
    assert [limit in message for message in (*said, str(caught.value))] == [True, True]


def test_the_second_run_gets_it_as_soon_as_the_first_lets_go(context: Context) -> None:
    with ExitStack() as first:
        first.enter_context(run(context, "4f1c", executions=1)).hold(ORDERS)
        wait, began = Wait(600, say=lambda message: first.close()), time.monotonic()
        with run(context, "7ab2", wait, executions=1) as second:
            second.hold(ORDERS)
        assert time.monotonic() - began < 30


def test_runs_of_different_models_go_side_by_side_up_to_the_limit(context: Context) -> None:
    with run(context, "4f1c") as first, run(context, "7ab2") as second, run(context, "93") as third:
        first.hold(ORDERS)
        second.hold(ITEMS)
        with pytest.raises(LeaseTaken, match=r"4f1c, 7ab2 .* 2 executions at once is the limit"):
            third.hold(STOCK)


def test_who_waits_for_models_is_told_which_ones_and_who_has_them(context: Context) -> None:
    with run(context, "4f1c") as first, run(context, "7ab2") as second:
        first.hold(ORDERS | ITEMS)
        with pytest.raises(LeaseTaken, match=r"shop\.orders is being evaluated by run 4f1c\."):
            second.hold(ORDERS | STOCK)
        message = r"shop\.items and 1 more are being evaluated by run 4f1c\."
        with pytest.raises(LeaseTaken, match=message):
            second.hold(ORDERS | ITEMS | STOCK)


def test_who_waits_holds_neither_models_nor_a_place(context: Context) -> None:
    with (
        run(context, "4f1c") as first,
        run(context, "93d0") as third,
        run(context, "7ab2", Wait(0.2, say=lambda message: third.hold(ITEMS))) as second,
    ):
        first.hold(ORDERS)
        with pytest.raises(LeaseTaken, match="run 4f1c, 93d0 evaluates"):
            second.hold(ORDERS | ITEMS)


def test_what_is_held_a_second_time_replaces_what_was_held(context: Context) -> None:
    with run(context, "4f1c") as first, run(context, "7ab2") as second:
        for models in (ORDERS, ORDERS | ITEMS, ITEMS | STOCK):
            first.hold(models)
        second.hold(ORDERS)
        for taken in (ITEMS, STOCK):
            with pytest.raises(LeaseTaken):
                second.hold(taken)


def test_who_is_refused_more_has_given_up_all_that_it_had(context: Context) -> None:
    with run(context, "4f1c") as first, run(context, "7ab2") as second, run(context, "93") as third:
        first.hold(ORDERS)
        first.hold(ORDERS)
        second.hold(ITEMS)
        with pytest.raises(LeaseTaken):
            first.hold(ORDERS | ITEMS)
        third.hold(ORDERS)


def test_environments_share_tables_but_not_places(context: Context) -> None:
    with (
        run(context, "4f1c", executions=1) as first,
        run(context, "7ab2", environment="dev", executions=1) as second,
    ):
        first.hold(ORDERS)
        with pytest.raises(LeaseTaken, match=r"shop__dev\.orders is being evaluated by run 4f1c"):
            second.hold({"orders 101": "shop__dev.orders"})
        second.hold({"orders 102": "shop.orders"})


def test_one_process_of_a_run_executes_and_the_next_one_once_it_is_gone(context: Context) -> None:
    message = "another process of this run executes SQLMesh"
    with run(context, "4f1c"), pytest.raises(LeaseTaken, match=message), run(context, "4f1c"):
        pytest.fail("the first process lives")
    with ExitStack() as first:
        first.enter_context(run(context, "93d0"))
        said: list[str] = []

        def say(message: str) -> None:
            said.append(message)
            first.close()

        with run(context, "93d0", Wait(600, say)) as second:
            second.hold(ORDERS)
    assert said == [f"Waiting: {message}"]


def test_what_a_killed_process_held_is_free_at_once(context: Context, database: Database) -> None:
    command = [sys.executable, "-c", HOLD, str(context.path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with run(context, "7ab2", executions=1) as second, pytest.raises(LeaseTaken, match="4f1c"):
            second.hold(ORDERS)
        process.send_signal(signal.SIGKILL)
        process.wait()
        with run(context, "4f1c", Wait(10), executions=1) as successor:
            successor.hold(ORDERS)
    assert is_released(database)


def test_a_lease_whose_session_has_ended_is_lost_for_good(
    context: Context, database: Database
) -> None:
    with run(context, "4f1c", executions=1) as lost, ThreadPoolExecutor(1) as pool:
        lost.hold(ORDERS)
        lost.check()
        pool.submit(lost.check).result()  # SQLMesh evaluates in threads of its own
        assert database.drop_sessions("%4f1c") == 1
        for now in (True, True, False):
            with pytest.raises(LeaseLost):
                lost.check(now=now)
        with run(context, "7ab2", executions=1) as other:
            other.hold(ORDERS)
    assert is_released(database)


def test_whoever_contends_gets_through_and_never_shares_a_model(
    context: Context, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_lease, "_POLL_SECONDS", 0.02)
    owners: dict[str, int] = {}
    seen: list[tuple[set[str], int]] = []  # models with a second owner, owners of any
    start, guard = threading.Barrier(8), threading.Lock()

    def contend(number: int) -> None:
        chance = random.Random(number)
        with run(context, f"{number}", Wait(120), executions=4) as lease:
            start.wait()
            for _ in range(12):
                models = chance.sample(range(12), chance.randint(1, 5))
                mine = {f"table {model}": f"shop.model_{model}" for model in models}
                lease.hold(mine)
                with guard:
                    shared = mine.keys() & owners.keys()
                    owners.update(dict.fromkeys(mine, number))
                    seen.append((shared, len(set(owners.values()))))
                time.sleep(chance.random() / 100)
                with guard:
                    for name in mine:
                        owners.pop(name, None)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(contend, range(8)))
    assert len(seen) == 8 * 12
    assert not any(shared for shared, _ in seen)
    assert 2 <= max(holders for _, holders in seen) <= 4
    assert is_released(database)


@pytest.mark.parametrize("number", [1_000, 20_000])
def test_a_large_project_fits_into_the_table_of_locks(
    context: Context, database: Database, number: int
) -> None:
    models = {f"table {each}": f"shop.model_{each}" for each in range(number)}
    with run(context, "4f1c") as first, run(context, "7ab2") as second:
        first.hold(models)
        assert database.locks() <= 2_048 + 3
        with pytest.raises(LeaseTaken, match=r"shop\.model_\d+ and \d+ more are .* by run 4f1c"):
            second.hold(models)
        assert database.locks() <= 2_048 + 3
        first.hold(ORDERS)
        assert database.locks() == 4
    assert is_released(database)


def test_two_states_in_one_database_do_not_exclude_each_other(
    context: Context, database: Database, tmp_path: Path
) -> None:
    state = database.sqlmesh
    other = opened(tmp_path / "other", state_connection=state, state_schema="sqlmesh_other")
    with run(context, "4f1c", executions=1) as first, run(other, "4f1c", executions=1) as second:
        first.hold(ORDERS)
        second.hold(ORDERS)
        assert database.locks() == 6  # of each: the run, its place, the model


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        # SQLMesh connects to neither before it is asked for its state.
        (
            {"type": "mssql", "host": "nowhere.invalid", "check_import": False},
            [
                "No lease on a state in mssql: that two runs do not evaluate the same models rests "
                "on Dagster's tag concurrency limit for sqlmesh/environment"
            ],
        ),
        ({"type": "duckdb"}, []),
    ],
)
def test_a_state_without_session_locks_is_said_where_nothing_else_excludes(
    tmp_path: Path, state: dict[str, Any], expected: list[str]
) -> None:
    said: list[str] = []
    context = opened(tmp_path / "project", state_connection=state)
    with run(context, "4f1c", Wait(0, said.append)) as lease, run(context, "7ab2") as other:
        lease.hold(ORDERS)
        other.hold(ORDERS)
        lease.check()
    assert said == expected
