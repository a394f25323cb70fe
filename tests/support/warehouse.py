"""A small SQLMesh project with models of most kinds, on DuckDB, PostgreSQL or MariaDB.

What goes wrong in it, and how long it takes, is said by a table and a folder that tests write to.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import yaml

from dagster_sqlmesh_automation.assets.project.manifest_file import prepare
from dagster_sqlmesh_automation.assets.project.opening import load_manifest
from dagster_sqlmesh_automation.config.settings import AutomationSettings

from . import projects
from .mariadb import MariaDB
from .postgres import Database

Base = Database | MariaDB
"""What a test has on a server for itself."""

START = datetime(2026, 10, 1, tzinfo=UTC)
PLANNED_AT = datetime(2026, 10, 8, tzinfo=UTC)
NEXT_DAY = datetime(2026, 10, 9, tzinfo=UTC)

# Raises while it is evaluated, and nowhere earlier, where the control table names the model.
_FAIL = (
    "CAST(CASE WHEN EXISTS (SELECT 1 FROM raw.control WHERE model = '{name}') "
    "THEN 'told to fail' ELSE '0' END AS INT)"
)

MODELS: Mapping[str, str] = {
    "models/events.sql": """
MODEL (name shop.events, kind INCREMENTAL_BY_TIME_RANGE (time_column day, batch_size 2),
  cron '@daily', audits (stays_true(model := 'shop.events'), has_rows));
SELECT id, day, country_id, amount + {fail} AS amount
FROM raw.events WHERE day BETWEEN @start_date AND @end_date
""",
    "models/customers.sql": """
MODEL (name shop.customers, kind INCREMENTAL_BY_UNIQUE_KEY (unique_key id), cron '@daily',
  audits (stays_true(model := 'shop.customers')));
SELECT CAST(id % 50 AS INT) AS id, CAST(SUM(amount + {fail}) AS INT) AS spent, MAX(day) AS last_day
FROM shop.events WHERE day BETWEEN @start_date AND @end_date GROUP BY id % 50
""",
    "models/totals.sql": """
MODEL (name shop.totals, kind FULL, cron '@daily', audits (stays_true(model := 'shop.totals')));
SELECT country_id, CAST(SUM(amount + {fail}) AS INT) AS amount FROM shop.events GROUP BY country_id
""",
    "models/best.sql": """
MODEL (name shop.best, kind VIEW, cron '@daily', audits (stays_true(model := 'shop.best')));
SELECT country_id, amount FROM shop.totals WHERE amount > 0
""",
    "audits/stays_true.sql": """
AUDIT (name stays_true);
SELECT model FROM raw.control WHERE model = @model || ' audit'
""",
    "audits/has_rows.sql": """
AUDIT (name has_rows, blocking false);
SELECT 1 AS found FROM (SELECT COUNT(*) AS rows FROM @this_model) AS counted WHERE rows = 0
""",
}

JOURNAL: Mapping[str, str] = {
    **MODELS,
    "models/journal.sql": """
MODEL (name shop.journal, kind INCREMENTAL_UNMANAGED, cron '@daily',
  audits (stays_true(model := 'shop.journal')));
SELECT id, day, amount + {fail} AS amount FROM shop.events
WHERE day BETWEEN @start_date AND @end_date
""",
}
"""And one whose rows are there twice when it is evaluated twice."""

_CONTROL = ("CREATE SCHEMA raw", "CREATE TABLE raw.control (model TEXT)")
_RAW = (
    *_CONTROL,
    """
    CREATE TABLE raw.events AS
    SELECT CAST(number AS INT) AS id, DATE '2026-10-01' + CAST(FLOOR(number / 20.0) AS INT) AS day,
      CAST(number % 3 AS INT) AS country_id, CAST(number % 7 AS INT) AS amount
    FROM generate_series(0, 1819) AS numbers (number)
    """,
)
_RAW_MARIADB = (
    *_CONTROL,
    """
    CREATE TABLE raw.events AS
    SELECT seq AS id, DATE '2026-10-01' + INTERVAL seq DIV 20 DAY AS day, seq % 3 AS country_id,
      seq % 7 AS amount
    FROM raw.seq_0_to_1819
    """,
)


@dataclass(frozen=True)
class Warehouse:
    """A project with its data.

    Attributes:
        project: Its folder.
        database: Where its tables are, when it is not the DuckDB file in the folder.
    """

    project: Path
    database: Base | None = None

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Runs SQL where the tables are."""
        if self.database is not None:
            return self.database.query(statement)
        with duckdb.connect(str(self.project / "warehouse.duckdb")) as connection:
            return connection.execute(statement).fetchall()

    def fail(self, *models: str) -> None:
        """Has these fail from here on, and no others; ``shop.totals audit`` stands for an audit."""
        self.query("DELETE FROM raw.control")
        for model in models:
            self.query(f"INSERT INTO raw.control VALUES ('{model}')")

    def tables(self) -> dict[str, list[tuple[Any, ...]]]:
        """The rows of all models as their readers see them, sorted."""
        tables = {}
        for name in self.names():
            rows = self.query(f"SELECT * FROM {name}")
            tables[name] = sorted(rows, key=repr)
        return tables

    def names(self) -> list[str]:
        """Names of the models."""
        rows = self.query(
            "SELECT table_schema || '.' || table_name FROM information_schema.tables "
            "WHERE table_schema = 'shop' ORDER BY 1"
        )
        return [name for (name,) in rows]

    def intervals(self) -> dict[str, list[list[str]]]:
        """What SQLMesh's state holds as evaluated."""
        from .outcome_helpers import intervals

        return intervals(self.project)


def warehouse(
    folder: Path,
    database: Base | None = None,
    *,
    state: Base | None = None,
    models: Mapping[str, str] = MODELS,
    raw: Iterable[str] = (),
    tasks: int = 2,
    at: datetime = PLANNED_AT,
) -> Warehouse:
    """A project, planned and evaluated up to a moment, with its manifest prepared.

    Args:
        folder: Made for it.
        database: For its tables, and for SQLMesh's state; a DuckDB file when not given.
        state: For SQLMesh's state alone.
        models: Text of each file by its path.
        raw: SQL for further tables that it reads.
        tasks: How many models SQLMesh evaluates at a time.
        at: The moment; the data begin with the month.
    """
    texts = {
        path: text.replace("{fail}", _FAIL.format(name=_name(path)))
        for path, text in models.items()
    }
    # A gate's path is part of the models that have one.
    if database is not None or state is not None or any("gate" in text for text in texts.values()):
        return _planned(folder, database, state, texts, tuple(raw), tasks, at)
    key = (*sorted(texts.items()), *raw, tasks, at)
    if key not in _TEMPLATES:
        template = Path(_FOLDER.name) / str(len(_TEMPLATES))
        _planned(template, None, None, texts, tuple(raw), tasks, at)
        _TEMPLATES[key] = template
    shutil.copytree(_TEMPLATES[key], folder, ignore=shutil.ignore_patterns("*.lock"))
    _configure(folder, None, None, tasks)
    prepare(AutomationSettings(project=folder), load_manifest)
    return Warehouse(folder)


_FOLDER = TemporaryDirectory(prefix="warehouses-")
_TEMPLATES: dict[Any, Path] = {}
"""Projects on DuckDB that have been planned in this process, which others are copied from."""


def _planned(
    folder: Path,
    database: Base | None,
    state: Base | None,
    texts: Mapping[str, str],
    raw: Iterable[str],
    tasks: int,
    at: datetime,
) -> Warehouse:
    folder.mkdir(parents=True)
    shop = Warehouse(folder, database)
    _configure(folder, database, state, tasks)
    for path, text in texts.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    for statement in (*(_RAW_MARIADB if isinstance(database, MariaDB) else _RAW), *raw):
        shop.query(statement)
    projects.plan(folder, at)
    prepare(AutomationSettings(project=folder), load_manifest)
    return shop


def _configure(folder: Path, database: Base | None, state: Base | None, tasks: int) -> None:
    duck = {"type": "duckdb", "database": str(folder / "warehouse.duckdb")}
    connection = database.sqlmesh if database is not None else duck
    gateway: dict[str, Any] = {"connection": {**connection, "concurrent_tasks": tasks}}
    if state is not None:
        gateway["state_connection"] = state.sqlmesh
    config = {
        "variables": {"gate": str(folder / "gate")},
        "gateways": {"main": gateway},
        "default_gateway": "main",
        "model_defaults": {
            "dialect": "duckdb" if database is None else "postgres",
            "start": f"{START:%Y-%m-%d}",
        },
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


def _name(path: str) -> str:
    return f"shop.{Path(path).stem}"


def sleeping(name: str, reads: Iterable[str] = (), seconds: float = 0.0) -> str:
    """A Python model that takes its time, and stops at a gate where there is one.

    While ``gate/NAME`` exists below the project, it makes ``gate/NAME/reached`` and waits for
    ``gate/NAME/open``.
    """
    return f"""
import time
from pathlib import Path

import pandas as pd
from sqlmesh import model


@model(
    {name!r}, kind="FULL", cron="@daily", columns={{"x": "int"}}, depends_on={set(reads) or "set()"}
)
def execute(context, start, end, execution_time, **kwargs):
    gate = Path(context.var("gate")) / {name!r}
    if gate.exists():
        (gate / "reached").touch()
        while not (gate / "open").exists():
            time.sleep(0.02)
    time.sleep({seconds})
    return pd.DataFrame({{"x": [1]}})
"""
