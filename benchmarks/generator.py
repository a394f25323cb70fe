"""Generates SQLMesh projects from a seed: layered graphs of mixed kinds and crons.

The benchmarks use it, and the tests that compare the layer with SQLMesh itself.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
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
"""What models may have, each some of them."""

_CONFIG = {"default_gateway": "main", "disable_anonymized_analytics": True}
_SIGNALS = '''"""Signals of the generated project."""

from sqlmesh import DatetimeRanges, signal


@signal()
def not_at_three(batch: DatetimeRanges) -> bool | DatetimeRanges:
    """Ready for all intervals but those that start between 03:00 and 04:00."""
    return [interval for interval in batch if interval[0].hour != 3]
'''


@dataclass(frozen=True, kw_only=True)
class Design:
    """What generated models look like.

    Attributes:
        crons: Crons and time zones to draw from.
        kinds: Kinds to draw from.
        start: The first day of all models.
        extras: What some of the models get, of :data:`EXTRAS`.
        trivial: Whether each root has one row, on any database, in place of 960.
        seconds: How long each model works; if it is not 0, all are Python models of kind FULL.
        connection: SQLMesh's connection; a DuckDB file in the project's folder if ``None``.
    """

    crons: Sequence[tuple[str, str | None]] = CRONS
    kinds: Sequence[str] = KINDS
    start: str = "2026-10-01"
    extras: Collection[str] = EXTRAS
    trivial: bool = False
    seconds: float = 0
    connection: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class GeneratedModel:
    """One model of a generated project."""

    name: str
    kind: str
    cron: str
    zone: str | None
    extras: Sequence[str]
    parents: Sequence[str]


def generate_project(
    folder: Path, models: int, design: Design | None = None, *, seed: int = 0
) -> list[str]:
    """Writes a SQLMesh project.

    Args:
        folder: The project's folder; created if it does not exist.
        models: How many models to write.
        design: What they look like.
        seed: The same seed gives the same project.

    Returns:
        The models' names, in topological order.
    """
    design = design or Design()
    _write_configuration(folder, design)
    drawn = _draw_models(models, design, random.Random(seed))
    for number, model in enumerate(drawn):
        file = folder / "models" / f"model_{number}"
        if design.seconds:
            file.with_suffix(".py").write_text(_python(model, design.seconds))
        else:
            file.with_suffix(".sql").write_text(_sql(model, design))
    return [model.name for model in drawn]


def _write_configuration(folder: Path, design: Design) -> None:
    for name in ("models", "signals"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "signals" / "__init__.py").write_text(_SIGNALS)
    file = {"type": "duckdb", "database": str(folder / "warehouse.duckdb")}
    configuration = {
        **_CONFIG,
        "gateways": {"main": {"connection": dict(design.connection or file)}},
        "model_defaults": {"dialect": "duckdb", "start": design.start},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(configuration))


def _draw_models(models: int, design: Design, draw: random.Random) -> list[GeneratedModel]:
    width = max(2, int(models**0.5))
    names = [f"layer_{number // width}.model_{number}" for number in range(models)]
    drawn: list[GeneratedModel] = []
    for number, name in enumerate(names):
        earlier = names[: (number // width) * width]
        parents = draw.sample(earlier[-3 * width :], k=min(len(earlier), draw.randint(1, 3)))
        kind = draw.choice(design.kinds)
        cron, zone = draw.choice(design.crons)
        extras = _draw_extras(draw, design.extras)
        drawn.append(GeneratedModel(name, kind, cron, zone, extras, parents))
    return drawn


def _draw_extras(draw: random.Random, extras: Collection[str]) -> list[str]:
    properties = []
    if draw.random() < 0.3 and "audits" in extras:
        properties.append("audits (not_null(columns := (id)), unique_values(columns := (id, ds)))")
    if draw.random() < 0.1 and "signals" in extras:
        properties.append("signals (not_at_three())")
    if draw.random() < 0.1 and "partials" in extras:
        properties.append("allow_partials true")
    return properties


def _sql(model: GeneratedModel, design: Design) -> str:
    kinds = {
        "INCREMENTAL_BY_TIME_RANGE": "INCREMENTAL_BY_TIME_RANGE (time_column ds)",
        "INCREMENTAL_BY_UNIQUE_KEY": "INCREMENTAL_BY_UNIQUE_KEY (unique_key (id, ds))",
    }
    kind = kinds.get(model.kind, model.kind)
    properties = [f"name {model.name}", f"kind {kind}", f"cron '{model.cron}'"]
    if model.zone:
        properties.append(f"cron_tz '{model.zone}'")
    properties.extend(model.extras)
    by_time = model.kind == "INCREMENTAL_BY_TIME_RANGE"
    window = "WHERE ds BETWEEN @start_ts AND @end_ts" if by_time else ""
    source = "\n  UNION\n  ".join(f"SELECT id, ds FROM {parent}" for parent in model.parents)
    if not model.parents and design.trivial:
        source = f"SELECT 1 AS id, TIMESTAMP '{design.start}' AS ds"
    elif not model.parents:
        hour = f"TIMESTAMP '{design.start}' + INTERVAL 1 HOUR * i"
        source = f"SELECT i AS id, {hour} AS ds FROM RANGE(960) AS t(i)"
    body = ",\n  ".join(properties)
    return (
        f"MODEL (\n  {body}\n);\n\n"
        f"SELECT id::INT AS id, ds::TIMESTAMP AS ds\nFROM (\n  {source}\n) AS source\n{window}\n"
    )


def _python(model: GeneratedModel, seconds: float) -> str:
    return f'''"""Works for a while."""

import time

import pandas as pd

from sqlmesh import model


@model(
    {model.name!r},
    kind="FULL",
    cron={model.cron!r},
    columns={{"id": "int"}},
    depends_on={sorted(model.parents)!r},
)
def entrypoint(context, start, end, execution_time, **kwargs):
    time.sleep({seconds})
    return pd.DataFrame({{"id": [1]}})
'''
