"""A seeded generator of SQLMesh projects: layered graphs of mixed kinds and crons.

Used by the benchmarks and by the tests that compare the layer with SQLMesh itself.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

CRONS: Sequence[tuple[str, str | None]] = (
    ("*/5 * * * *", None),
    ("@hourly", None),
    ("@hourly", None),
    ("@daily", None),
    ("@daily", None),
    ("@weekly", None),
    ("0 6 * * *", "Europe/Berlin"),
    ("30 */2 * * *", None),
)
KINDS = ("VIEW", "FULL", "INCREMENTAL_BY_TIME_RANGE", "INCREMENTAL_BY_UNIQUE_KEY")

EXTRAS = ("audits", "signals", "partials")

_CONFIG = {"default_gateway": "main", "disable_anonymized_analytics": True}
_SIGNALS = '''"""Signals of the generated project."""

from sqlmesh import DatetimeRanges, signal


@signal()
def not_at_three(batch: DatetimeRanges) -> bool | DatetimeRanges:
    """Ready for all intervals but those that start between 03:00 and 04:00."""
    return [interval for interval in batch if interval[0].hour != 3]
'''


def generate_project(
    folder: Path,
    models: int,
    *,
    seed: int = 0,
    crons: Sequence[tuple[str, str | None]] = CRONS,
    kinds: Sequence[str] = KINDS,
    start: str = "2026-10-01",
    extras: Collection[str] = EXTRAS,
    trivial: bool = False,
    seconds: float = 0,
    connection: Mapping[str, Any] | None = None,
) -> list[str]:
    """Writes a SQLMesh project.

    Args:
        folder: Made where it does not exist.
        models: How many.
        seed: Same seed, same project.
        crons: Drawn from, with their time zones.
        kinds: Drawn from.
        start: First day of all models.
        extras: What some models get, of :data:`EXTRAS`.
        trivial: One row in each root instead of 960, on any database.
        seconds: How long each model works; where it is not 0 they are Python models, of kind FULL.
        connection: SQLMesh's; a DuckDB file in the folder where there is none.

    Returns:
        The models' names, in topological order.
    """
    draw = random.Random(seed)
    (folder / "models").mkdir(parents=True, exist_ok=True)
    (folder / "signals").mkdir(exist_ok=True)
    (folder / "signals" / "__init__.py").write_text(_SIGNALS)
    connection = connection or {"type": "duckdb", "database": str(folder / "warehouse.duckdb")}
    configuration = {
        **_CONFIG,
        "gateways": {"main": {"connection": dict(connection)}},
        "model_defaults": {"dialect": "duckdb", "start": start},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(configuration))
    width = max(2, int(models**0.5))
    names: list[str] = []
    for number in range(models):
        name = f"layer_{number // width}.model_{number}"
        earlier = names[: (number // width) * width]
        parents = draw.sample(earlier[-3 * width :], k=min(len(earlier), draw.randint(1, 3)))
        kind = draw.choice(kinds)
        cron, zone = draw.choice(crons)
        extra = _extra(draw, extras)
        file = folder / "models" / f"model_{number}"
        if seconds:
            file.with_suffix(".py").write_text(_sleeper(name, cron, parents, seconds))
        else:
            text = _model(name, kind, cron, zone, extra, parents, start, trivial)
            file.with_suffix(".sql").write_text(text)
        names.append(name)
    return names


def _extra(draw: random.Random, extras: Collection[str]) -> list[str]:
    found = []
    if draw.random() < 0.3 and "audits" in extras:
        found.append("audits (not_null(columns := (id)), unique_values(columns := (id, ds)))")
    if draw.random() < 0.1 and "signals" in extras:
        found.append("signals (not_at_three())")
    if draw.random() < 0.1 and "partials" in extras:
        found.append("allow_partials true")
    return found


def _model(
    name: str,
    kind: str,
    cron: str,
    zone: str | None,
    extra: Sequence[str],
    parents: Sequence[str],
    start: str,
    trivial: bool,
) -> str:
    kinds = {
        "INCREMENTAL_BY_TIME_RANGE": "INCREMENTAL_BY_TIME_RANGE (time_column ds)",
        "INCREMENTAL_BY_UNIQUE_KEY": "INCREMENTAL_BY_UNIQUE_KEY (unique_key (id, ds))",
    }
    properties = [f"name {name}", f"kind {kinds.get(kind, kind)}", f"cron '{cron}'"]
    if zone:
        properties.append(f"cron_tz '{zone}'")
    properties.extend(extra)
    window = "WHERE ds BETWEEN @start_ts AND @end_ts" if kind == "INCREMENTAL_BY_TIME_RANGE" else ""
    source = "\n  UNION\n  ".join(f"SELECT id, ds FROM {parent}" for parent in parents)
    if not parents and trivial:
        source = f"SELECT 1 AS id, TIMESTAMP '{start}' AS ds"
    elif not parents:
        hour = f"TIMESTAMP '{start}' + INTERVAL 1 HOUR * i"
        source = f"SELECT i AS id, {hour} AS ds FROM RANGE(960) AS t(i)"
    body = ",\n  ".join(properties)
    return (
        f"MODEL (\n  {body}\n);\n\n"
        f"SELECT id::INT AS id, ds::TIMESTAMP AS ds\nFROM (\n  {source}\n) AS source\n{window}\n"
    )


def _sleeper(name: str, cron: str, parents: Sequence[str], seconds: float) -> str:
    return f'''"""Works for a while."""

import time

import pandas as pd

from sqlmesh import model


@model(
    {name!r},
    kind="FULL",
    cron={cron!r},
    columns={{"id": "int"}},
    depends_on={sorted(parents)!r},
)
def entrypoint(context, start, end, execution_time, **kwargs):
    time.sleep({seconds})
    return pd.DataFrame({{"id": [1]}})
'''
