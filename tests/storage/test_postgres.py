"""Dagster's PostgreSQL storage with kept connections: the same records, in the same tables."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from support.postgres import Database
from support.queries import counting_queries, run_chain


def instance_of(home: Path, database: Database, *, pooled: bool) -> dg.DagsterInstance:
    home.mkdir(exist_ok=True)
    config: dict[str, Any] = {"postgres_url": database.url}
    storage: dict[str, Any] = {"postgres": config}
    if pooled:
        storage = {
            "custom": {
                "module": "dagster_sqlmesh_automation.storage",
                "class": "PooledPostgresStorage",
                "config": config,
            }
        }
    text = yaml.safe_dump({"telemetry": {"enabled": False}, "storage": storage})
    (home / "dagster.yaml").write_text(text)
    return dg.DagsterInstance.from_config(str(home))


@pytest.fixture
def pooled(tmp_path: Path, database: Database) -> Iterator[dg.DagsterInstance]:
    with instance_of(tmp_path / "home", database, pooled=True) as instance:
        yield instance


@dg.asset
def orders() -> None: ...


def run(instance: dg.DagsterInstance) -> str:
    job = dg.Definitions(assets=[orders]).resolve_implicit_global_asset_job_def()
    return job.execute_in_process(instance=instance).run_id


def test_a_run_opens_next_to_no_connections_and_its_records_are_dagsters_own(
    tmp_path: Path, database: Database
) -> None:
    with instance_of(tmp_path / "own", database, pooled=False) as own:
        run(own)
        with counting_queries() as of_dagsters:
            run(own)
    with instance_of(tmp_path / "home", database, pooled=True) as pooled:
        run_id = run(pooled)
        with counting_queries() as of_pooled:
            run(pooled)
    assert of_dagsters.connections > 30
    assert of_pooled.connections <= 2
    with instance_of(tmp_path / "own", database, pooled=False) as own:
        found = own.get_run_by_id(run_id)
        assert found is not None
        assert found.is_success
        assert own.get_latest_materialization_event(dg.AssetKey("orders")) is not None
        records = own.get_records_for_run(run_id).records
        assert dg.DagsterEventType.ASSET_MATERIALIZATION in {
            each.event_log_entry.dagster_event_type for each in records
        }


def test_no_asset_of_a_run_asks_for_the_schema_again(pooled: dg.DagsterInstance) -> None:
    run_chain(pooled, 2)
    counts = []
    for length in (2, 8):
        with counting_queries() as queries:
            run_chain(pooled, length)
        counts.append(len(queries.of_the_schema))
        assert queries.connections == 0
    assert counts[0] == counts[1] <= 1  # one for each run


def test_connections_that_have_gone_are_noticed(
    pooled: dg.DagsterInstance, database: Database
) -> None:
    run(pooled)
    assert database.drop_sessions() >= 1
    run(pooled)


def test_threads_do_not_wait_for_each_other(pooled: dg.DagsterInstance) -> None:
    at_once = threading.Barrier(8)

    def report(number: int) -> None:
        at_once.wait(60)
        for each in range(20):
            pooled.report_runless_asset_event(dg.AssetMaterialization(f"asset_{number}_{each}"))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(report, range(8)))
    assert len(pooled.get_asset_keys()) == 160


def test_a_forked_process_has_connections_of_its_own(pooled: dg.DagsterInstance) -> None:
    run(pooled)
    child = os.fork()
    if child == 0:
        try:
            count = len(pooled.get_runs())
        finally:
            os._exit(0 if count == 1 else 1)
    assert len(pooled.get_runs()) == 1
    assert os.waitpid(child, 0)[1] == 0


def test_what_it_cannot_do_is_said(tmp_path: Path) -> None:
    from dagster_sqlmesh_automation.storage import PooledPostgresStorage

    with pytest.raises(ValueError, match="takes no auth_provider"):
        PooledPostgresStorage.from_config_value(None, {"auth_provider": {"azure": {}}})
