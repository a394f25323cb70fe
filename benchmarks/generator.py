"""A seeded generator of SQLMesh projects: layered graphs of mixed kinds and crons.

Used by the benchmarks and by the tests that compare the layer with SQLMesh itself.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from pathlib import Path

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
) -> list[str]:
    """Writes a SQLMesh project on DuckDB.

    Args:
        folder: Made where it does not exist.
        models: How many.
        seed: Same seed, same project.
        crons: Drawn from, with their time zones.
        kinds: Drawn from.
        start: First day of all models.
        extras: What some models get, of :data:`EXTRAS`.

    Returns:
        The models' names, in topological order.
    """
    draw = random.Random(seed)
    (folder / "models").mkdir(parents=True, exist_ok=True)
    (folder / "signals").mkdir(exist_ok=True)
    (folder / "signals" / "__init__.py").write_text(_SIGNALS)
    (folder / "config.yaml").write_text(
        yaml.safe_dump(
            {
                **_CONFIG,
                "gateways": {
                    "main": {
                        "connection": {
                            "type": "duckdb",
                            "database": str(folder / "warehouse.duckdb"),
                        }
                    }
                },
                "model_defaults": {"dialect": "duckdb", "start": start},
            }
        )
    )
    width = max(2, int(models**0.5))
    names: list[str] = []
    for number in range(models):
        name = f"layer_{number // width}.model_{number}"
        earlier = names[: (number // width) * width]
        parents = draw.sample(earlier[-3 * width :], k=min(len(earlier), draw.randint(1, 3)))
        kind = draw.choice(kinds)
        cron, zone = draw.choice(crons)
        extra = _extra(draw, extras)
        text = _model(name, kind, cron, zone, extra, parents, start)
        (folder / "models" / f"model_{number}.sql").write_text(text)
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
    if not parents:
        hour = f"TIMESTAMP '{start}' + INTERVAL 1 HOUR * i"
        source = f"SELECT i AS id, {hour} AS ds FROM RANGE(960) AS t(i)"
    body = ",\n  ".join(properties)
    return (
        f"MODEL (\n  {body}\n);\n\n"
        f"SELECT id::INT AS id, ds::TIMESTAMP AS ds\nFROM (\n  {source}\n) AS source\n{window}\n"
    )
