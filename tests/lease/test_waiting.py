"""The lease on DuckDB files: exclusive, in order, and free again when its holder is gone."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import duckdb
import pytest
from filelock import FileLock, Timeout

from dagster_sqlmesh_automation.assets.lease.waiting import DuckDBFile, Wait, database_lease
from dagster_sqlmesh_automation.config.errors import DatabaseLocked

HOLD = """
import sys
from pathlib import Path
from dagster_sqlmesh_automation.assets.lease.waiting import DuckDBFile, Wait, database_lease

with database_lease([DuckDBFile(Path(sys.argv[1]))], Wait(0), "run 4f1c"):
    print("held", flush=True)
    sys.stdin.read()
"""

OPEN = """
import sys
import duckdb

database = duckdb.connect(sys.argv[1], read_only=sys.argv[2] == "1")
print("open")
sys.stdin.read()
"""


def lease(
    files: Sequence[Path],
    timeout_seconds: float,
    waiting: Callable[[str], None] = lambda message: None,
    given_up: Callable[[], bool] = lambda: False,
) -> AbstractContextManager[None]:
    """The lease of a run that is called 7ab2."""
    return database_lease(
        [DuckDBFile(file) for file in files], Wait(timeout_seconds, waiting, given_up), "run 7ab2"
    )


@contextmanager
def holder(database: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lease of a database until its standard input is closed."""
    command = [sys.executable, "-c", HOLD, str(database)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process


def is_free(database: Path) -> bool:
    try:
        with lease([database], timeout_seconds=0):
            return True
    except DatabaseLocked:
        return False


def lock_of(database: Path) -> FileLock:
    """The lock file as a process sees it that does not know this package."""
    return FileLock(f"{database}.lock", timeout=0)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "warehouse.duckdb"


def test_one_process_at_a_time_has_it_and_a_killed_one_has_it_no_longer(database: Path) -> None:
    with holder(database) as process:
        assert not is_free(database)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert is_free(database)


def test_who_waits_gets_it_as_soon_as_the_other_process_lets_go(database: Path) -> None:
    with holder(database) as process:
        assert process.stdin is not None
        messages: list[str] = []

        def waiting(message: str) -> None:
            messages.append(message)
            process.stdin.close()

        with lease([database], timeout_seconds=60, waiting=waiting):
            assert not is_free(database)
        assert len(messages) == 1
        assert process.wait() == 0


def test_threads_of_one_process_exclude_each_other(database: Path) -> None:
    inside: list[int] = []
    found: list[tuple[int, bool]] = []
    start = threading.Barrier(4)

    def work(number: int) -> None:
        start.wait()
        with lease([database], timeout_seconds=60):
            inside.append(number)
            found.append((len(inside), is_free(database)))
            inside.remove(number)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert found == [(1, False)] * 4


def test_one_thread_does_not_get_it_twice(database: Path) -> None:
    with lease([database], timeout_seconds=0):
        assert not is_free(database)
    assert is_free(database)


def test_it_is_let_go_when_the_work_raises(database: Path) -> None:
    with pytest.raises(ZeroDivisionError), lease([database], timeout_seconds=0):
        raise ZeroDivisionError
    assert is_free(database)


def test_no_files_need_no_lock_and_no_time() -> None:
    with lease([], timeout_seconds=0):
        pass


def test_several_files_are_taken_in_sorted_order_whatever_order_they_come_in(
    tmp_path: Path,
) -> None:
    first, second, third = (tmp_path / f"{name}.duckdb" for name in "abc")
    blocker = lock_of(second)
    blocker.acquire()
    held: list[tuple[bool, bool]] = []

    def waiting(message: str) -> None:
        assert str(second) in message
        held.append((not is_free(first), not is_free(third)))
        blocker.release()

    with lease([third, first, second], timeout_seconds=60, waiting=waiting):
        assert not any(is_free(file) for file in (first, second, third))
    assert held == [(True, False)]


def test_what_was_taken_is_let_go_when_a_later_file_stays_locked(tmp_path: Path) -> None:
    first, second = tmp_path / "a.duckdb", tmp_path / "b.duckdb"
    with (
        lock_of(second),
        pytest.raises(DatabaseLocked, match=r"b\.duckdb"),
        lease([first, second], timeout_seconds=0),
    ):
        pytest.fail("the second file is locked")
    assert is_free(first)


def test_the_error_at_the_end_of_the_time_names_the_database_and_its_lock(database: Path) -> None:
    began = time.monotonic()
    with (
        lock_of(database),
        pytest.raises(DatabaseLocked) as caught,
        lease([database], timeout_seconds=0.5),
    ):
        pytest.fail("the file is locked")
    assert 0.5 <= time.monotonic() - began < 30
    assert str(caught.value).startswith(f"The DuckDB database {database} is in use")
    assert f"{database}.lock" in str(caught.value)


def test_waiting_is_told_once_for_each_file_however_long_it_takes(tmp_path: Path) -> None:
    first, second = tmp_path / "a.duckdb", tmp_path / "b.duckdb"
    blocker, messages, asked = lock_of(first), [], []
    blocker.acquire()

    def given_up() -> bool:
        asked.append(1)
        if len(asked) == 4:  # the fourth time that the first file is not free
            blocker.release()
        return len(asked) == 8

    with (
        lock_of(second),
        pytest.raises(DatabaseLocked),
        lease([first, second], timeout_seconds=60, waiting=messages.append, given_up=given_up),
    ):
        pytest.fail("the second file is locked")
    assert [str(first) in messages[0], str(second) in messages[1]] == [True, True]
    assert len(messages) == 2


def test_a_wait_that_is_given_up_ends_at_once(database: Path) -> None:
    began = time.monotonic()
    with (
        lock_of(database),
        pytest.raises(DatabaseLocked),
        lease([database], timeout_seconds=600, given_up=lambda: True),
    ):
        pytest.fail("the file is locked")
    assert time.monotonic() - began < 60


@contextmanager
def opener(database: Path, *, read_only: bool = False) -> Iterator[subprocess.Popen[str]]:
    """A process that has a database open and knows nothing of locks beside it."""
    duckdb.connect(str(database)).close()
    command = [sys.executable, "-uc", OPEN, str(database), str(int(read_only))]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        yield process


def test_a_process_that_knows_nothing_of_the_lock_is_waited_for(database: Path) -> None:
    with opener(database) as process:
        assert process.stdin is not None
        messages: list[str] = []

        def waiting(message: str) -> None:
            messages.append(message)
            process.stdin.close()

        with lease([database], timeout_seconds=60, waiting=waiting):
            assert process.wait() == 0
            assert not is_free(database)
    (message,) = messages
    assert message.startswith(f"Waiting: {database.name}: ")
    assert f"PID {process.pid}" in message


def test_such_a_process_is_named_at_the_end_of_the_time_and_the_lock_is_let_go(
    tmp_path: Path,
) -> None:
    first, second = tmp_path / "a.duckdb", tmp_path / "b.duckdb"
    with opener(second) as process:
        with (
            pytest.raises(DatabaseLocked, match=rf"b\.duckdb is in use .*PID {process.pid}"),
            lease([first, second], timeout_seconds=0.3),
        ):
            pytest.fail("the second file is open elsewhere")
        for file in (first, second):
            with lock_of(file):
                assert not Path(f"{file}.lock.holder").exists()


@pytest.mark.parametrize("read_only", [True, False])
def test_who_only_reads_a_file_is_in_the_way_of_those_that_write_it_alone(
    database: Path, read_only: bool
) -> None:
    files = [DuckDBFile(database, read_only)]
    with opener(database, read_only=True):
        try:
            with database_lease(files, Wait(0), "run 7ab2"):
                taken = True
        except DatabaseLocked:
            taken = False
    assert taken is read_only


def test_a_file_that_is_no_database_or_not_there_is_left_to_who_opens_it(tmp_path: Path) -> None:
    other, missing = tmp_path / "other.duckdb", tmp_path / "missing.duckdb"
    other.write_text("no database")
    with lease([other, missing], timeout_seconds=0):
        assert not missing.exists()


def test_the_lock_is_one_that_other_programs_can_take_part_in(database: Path) -> None:
    with lease([database], timeout_seconds=0), pytest.raises(Timeout):
        lock_of(database).acquire()
