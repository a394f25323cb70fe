"""SQLMesh configuration of the jaffle shop, an example project on DuckDB.

SQLMesh reads the variable ``config`` from this module. A project may say the same in
``config.yaml``; it is Python here because a relative DuckDB path in YAML is relative to the
current directory, and this project is meant to be run from anywhere.

The warehouse and SQLMesh's own state share one DuckDB file. DuckDB lets one process at a time
open a file for writing, so ``sqlmesh``, ``generate.py`` and a running Dagster wait for each other
or fail. A project with several writers keeps its state in Postgres (``state_connection``).

The file's name without its suffix becomes the catalog in SQLMesh's full model names
(``"jaffle_shop"."sales"."orders"``): a database named differently holds models with other names.

Environment variables:
    JAFFLE_SHOP_DATABASE: Path of the DuckDB file, ``jaffle_shop.duckdb`` beside this module when
        not set.
    JAFFLE_SHOP_FAIL: Makes ``marketing.customer_segments`` fail; see that model.
"""

from __future__ import annotations

import os
from pathlib import Path

from sqlmesh.core.config import (
    Config,
    DuckDBConnectionConfig,
    GatewayConfig,
    LinterConfig,
    ModelDefaultsConfig,
)
from sqlmesh.core.config.format import FormatConfig

DATABASE = Path(
    os.environ.get("JAFFLE_SHOP_DATABASE") or Path(__file__).parent / "jaffle_shop.duckdb"
).absolute()

config = Config(
    gateways={
        "duckdb": GatewayConfig(connection=DuckDBConnectionConfig(database=str(DATABASE))),
    },
    default_gateway="duckdb",
    model_defaults=ModelDefaultsConfig(
        dialect="duckdb",
        # Without a start, an incremental model would begin with the day of its first plan.
        start="2026-10-01",
        owner="analytics-engineering",
    ),
    linter=LinterConfig(
        enabled=True,
        rules={
            "ambiguousorinvalidcolumn",
            "invalidselectstarexpansion",
            "noambiguousprojections",
            "nomissingexternalmodels",
            "noselectstar",
        },
    ),
    format=FormatConfig(append_newline=True),
    disable_anonymized_analytics=True,
)
