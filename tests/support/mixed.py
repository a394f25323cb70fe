"""A code location with assets between models, under any executor.

``python -m support.mixed EXECUTOR ASSET…`` runs some of its assets once; ``MIXED_…`` variables say
where, because each step's process loads it anew.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb

from dagster_sqlmesh_automation import AutomationSettings, build_definitions
from support.executors import EXECUTORS
from support.warehouse import NEXT_DAY

MODELS = {
    "models/first.sql": "MODEL (name shop.first, kind FULL, cron '@daily'); "
    "SELECT COUNT(*) AS n FROM raw.loaded",
    "models/other.sql": "MODEL (name shop.other, kind FULL, cron '@daily'); SELECT 100 AS n",
    "models/second.sql": "MODEL (name shop.second, kind FULL, cron '@daily'); "
    "SELECT CAST(MAX(n) AS BIGINT) AS n FROM ml.scored",
    "models/last.sql": "MODEL (name shop.last, kind FULL, cron '@daily'); "
    "SELECT CAST(a.n + b.n + c.n AS BIGINT) AS n FROM shop.first a, shop.second b, shop.other c",
    "audits/enough.sql": "AUDIT (name enough, standalone true, cron '@daily'); "
    "SELECT n FROM shop.second WHERE n < 30",
}
"""``raw.loaded`` is made by one asset, ``ml.scored`` by one that reads ``shop.first``."""

RAW = (
    "CREATE TABLE raw.loaded (id INT)",
    "CREATE SCHEMA ml",
    "CREATE TABLE ml.scored AS SELECT CAST(0 AS BIGINT) AS n",
)


def others(project: Path) -> list[dg.AssetsDefinition]:
    """What makes the tables that the models of a project read."""

    def query(statement: str) -> None:
        deadline = time.monotonic() + 60
        while True:
            try:
                with duckdb.connect(str(project / "warehouse.duckdb")) as connection:
                    connection.execute(statement)
                return
            except duckdb.IOException:  # another process has the file open
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    @dg.asset(key=["raw", "loaded"])
    def loaded() -> None:
        query("INSERT INTO raw.loaded VALUES (1), (2), (3)")

    @dg.asset(key=["ml", "scored"], deps=[dg.AssetKey(["shop", "first"])])
    def scored() -> None:
        query("INSERT INTO ml.scored SELECT 10 * n FROM shop.first")

    return [loaded, scored]


def definitions(project: Path, executor: Any = None) -> dg.Definitions:
    """The models of a project, and what makes the tables that they read."""
    settings = AutomationSettings(project=project, external_asset_key="{schema}/{name}")
    return dg.Definitions.merge(
        dg.Definitions(
            assets=others(project),
            executor=executor,
            jobs=[dg.define_asset_job("mixed", selection=os.environ.get("MIXED_SELECT", "*"))],
        ),
        build_definitions(settings, executor=None),
    )


def mixed() -> dg.JobDefinition:
    """The job, for processes that load it anew."""
    project = Path(os.environ["MIXED_PROJECT"])
    return definitions(project, EXECUTORS[os.environ["MIXED_EXECUTOR"]]).resolve_job_def("mixed")


if __name__ == "__main__":
    with dg.DagsterInstance.get() as instance:
        result = dg.execute_job(
            dg.reconstructable(mixed),
            instance,
            tags={"sqlmesh/execution_time": NEXT_DAY.isoformat()},
        )
        sys.exit(not result.success)
