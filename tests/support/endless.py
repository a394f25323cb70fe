"""Models whose statement does not end by itself once they have been told to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from .postgres import Database
from .warehouse import Warehouse, warehouse

_RAW = {
    "duckdb": ("CREATE TABLE raw.endless (x BIGINT)",),
    "postgres": (
        "CREATE TABLE raw.endless (x BIGINT)",
        """
        CREATE FUNCTION raw.nap() RETURNS INT LANGUAGE plpgsql AS $$
        BEGIN
          IF EXISTS (SELECT 1 FROM raw.endless) THEN
            PERFORM pg_sleep(600);
          END IF;
          RETURN 0;
        END $$
        """,
    ),
}
_QUERY = {
    "duckdb": (
        "SELECT CAST(SUM(a.x * b.x + c.x) AS INT) AS x "
        "FROM raw.endless AS a, raw.endless AS b, raw.endless AS c"
    ),
    "postgres": "SELECT raw.nap() AS x",
}


def _models(engine: str) -> Mapping[str, str]:
    return {
        "models/endless.sql": (
            f"MODEL (name shop.endless, kind FULL, cron '@daily'); {_QUERY[engine]}"
        ),
        "models/reader.sql": (
            "MODEL (name shop.reader, kind FULL, cron '@daily'); SELECT x FROM shop.endless"
        ),
        "models/sibling.sql": (
            "MODEL (name shop.sibling, kind FULL, cron '@daily'); SELECT CAST(1 AS INT) AS x"
        ),
    }


def endless_warehouse(
    folder: Path, database: Database | None = None, models: Mapping[str, str] | None = None
) -> Warehouse:
    """A project in which ``shop.endless`` ends only once it is cancelled; planned before that.

    Args:
        folder: Made for it.
        database: For its tables and state; a DuckDB file when not given.
        models: Further models.
    """
    engine = "duckdb" if database is None else "postgres"
    shop = warehouse(
        folder, database, models={**_models(engine), **(models or {})}, raw=_RAW[engine]
    )
    shop.query("INSERT INTO raw.endless SELECT * FROM generate_series(1, 100000)")
    return shop


def running(database: Database) -> list[str]:
    """The statements that the server runs in a database for others than who asks."""
    return [
        statement
        for (statement,) in database.query(
            "SELECT query FROM pg_stat_activity WHERE datname = current_database() "
            "AND state = 'active' AND pid <> pg_backend_pid()"
        )
    ]
