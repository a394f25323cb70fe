"""Dagster's SQLite storage with kept connections: the same records, in the same files."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import yaml
from support.queries import counting_queries, run_chain

from dagster_sqlmesh_automation.assets.dagster_internals import SqliteEventLogStorage
from dagster_sqlmesh_automation.assets.storage.sqlite import MOST_KEPT


def instance_of(home: Path, *, pooled: bool) -> dg.DagsterInstance:
    home.mkdir(exist_ok=True)
    config: dict[str, object] = {"telemetry": {"enabled": False}}
    if pooled:
        config["storage"] = {
            "custom": {
                "module": "dagster_sqlmesh_automation.storage",
                "class": "PooledSqliteStorage",
                "config": {"base_dir": str(home)},
            }
        }
    (home / "dagster.yaml").write_text(yaml.safe_dump(config))
    return dg.DagsterInstance.from_config(str(home))


@pytest.fixture
def pooled(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with instance_of(tmp_path / "home", pooled=True) as instance:
        yield instance


@dg.asset(check_specs=[dg.AssetCheckSpec("positive", asset="orders")])
def orders():  # type: ignore[no-untyped-def]
    return dg.MaterializeResult(
        metadata={"rows": 3}, check_results=[dg.AssetCheckResult(passed=True)]
    )


@dg.asset(deps=[orders])
def revenue() -> None:
    raise RuntimeError("no money")


DEFINITIONS = dg.Definitions(assets=[orders, revenue])


def run(instance: dg.DagsterInstance) -> str:
    job = DEFINITIONS.resolve_implicit_global_asset_job_def()
    return job.execute_in_process(instance=instance, raise_on_error=False).run_id


def stored(instance: dg.DagsterInstance, run_id: str) -> list[tuple[str | None, str | None]]:
    records = instance.get_records_for_run(run_id).records
    return [
        (event.dagster_event.event_type_value if event.dagster_event else None, event.step_key)
        for event in (record.event_log_entry for record in records)
    ]


def test_a_run_is_recorded_as_dagsters_own_storage_records_it(tmp_path: Path) -> None:
    with (
        instance_of(tmp_path / "own", pooled=False) as own,
        instance_of(tmp_path / "pooled", pooled=True) as pooled,
    ):
        assert isinstance(pooled.event_log_storage, SqliteEventLogStorage)
        assert type(pooled.event_log_storage) is not SqliteEventLogStorage
        assert stored(pooled, run(pooled)) == stored(own, run(own))
        for instance in (own, pooled):
            (record,) = instance.get_asset_records([orders.key])
            assert record.asset_entry.last_materialization is not None
            (check,) = instance.event_log_storage.get_asset_check_execution_history(
                dg.AssetCheckKey(orders.key, "positive"), limit=10
            )
            assert check.status.value == "SUCCEEDED"
            assert [each.status for each in instance.get_runs()] == [dg.DagsterRunStatus.FAILURE]


def test_dagsters_own_storage_reads_the_same_files(tmp_path: Path) -> None:
    with instance_of(tmp_path / "home", pooled=True) as pooled:
        run_id = run(pooled)
        expected = stored(pooled, run_id)
        with instance_of(tmp_path / "home", pooled=False) as own:
            assert stored(own, run_id) == expected
            second = run(own)
        assert stored(pooled, second)
        assert len(pooled.get_runs()) == 2


def test_connections_stay_open_and_their_number_is_bounded(pooled: dg.DagsterInstance) -> None:
    for _ in range(2):
        run(pooled)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for _ in range(MOST_KEPT + 4):
        run(pooled)
    # SQLite in WAL mode holds three descriptors for each database.
    assert len(os.listdir("/proc/self/fd")) <= before + 3 * MOST_KEPT  # noqa: PTH208
    pooled.dispose()
    assert len(os.listdir("/proc/self/fd")) < before  # noqa: PTH208


def test_no_asset_of_a_run_asks_for_the_schema_again(pooled: dg.DagsterInstance) -> None:
    run_chain(pooled, 2)
    counts = []
    for length in (2, 8):
        with counting_queries() as queries:
            run_chain(pooled, length)
        counts.append((len(queries.of_the_schema), queries.connections))
    # Each run has a file of its own, whose tables are made.
    assert counts[0] == counts[1]


def test_disposed_it_opens_again(pooled: dg.DagsterInstance) -> None:
    run_id = run(pooled)
    expected = stored(pooled, run_id)
    pooled.dispose()
    assert stored(pooled, run_id) == expected


def test_wiped_it_is_empty_and_takes_new_runs(pooled: dg.DagsterInstance) -> None:
    first = run(pooled)
    pooled.wipe()
    assert stored(pooled, first) == []
    assert stored(pooled, run(pooled))


def test_files_that_another_process_has_deleted_are_made_anew(
    pooled: dg.DagsterInstance, tmp_path: Path
) -> None:
    first = run(pooled)
    code = (
        "import sys; import dagster as dg\n"
        "with dg.DagsterInstance.from_config(sys.argv[1]) as instance: instance.wipe()"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "home")], check=True)
    assert stored(pooled, first) == []
    second = run(pooled)
    (file,) = (tmp_path / "home" / "history" / "runs").glob(f"{second}.db")
    with sqlite3.connect(file) as database:
        assert database.execute("SELECT count(*) FROM event_logs").fetchone()[0] > 5


def test_threads_write_at_once(pooled: dg.DagsterInstance) -> None:
    stored_run = pooled.get_run_by_id(run(pooled))
    assert stored_run is not None

    def write(number: int) -> None:
        for event in range(20):
            pooled.report_engine_event(f"event {event} of thread {number}", stored_run)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    messages = {entry.message for entry in pooled.all_logs(stored_run.run_id)}
    for number in range(4):
        for event in range(20):
            assert any(f"event {event} of thread {number}" in message for message in messages)


def _in_a_fork(instance: dg.DagsterInstance, run_id: str) -> None:
    assert stored(instance, run_id)
    run(instance)


def test_a_forked_process_has_connections_of_its_own(pooled: dg.DagsterInstance) -> None:
    run_id = run(pooled)
    child = multiprocessing.get_context("fork").Process(target=_in_a_fork, args=(pooled, run_id))
    child.start()
    child.join(60)
    assert child.exitcode == 0
    assert len(pooled.get_runs()) == 2
    assert stored(pooled, run(pooled))
