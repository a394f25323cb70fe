"""Whether Dagster shows what SQLMesh did, once nothing goes on any more."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import dagster as dg

from .schema import tick_json
from .tables import ranges
from .warehouse import Warehouse


def tick_until_idle(
    shop: Warehouse, home: Path, at: datetime, most: int = 4, **variables: str
) -> list[Any]:
    """Ticks of the command line until one asks for nothing; their documents.

    Args:
        shop: The project.
        home: Its ``DAGSTER_HOME``.
        at: The moment of the ticks.
        most: How many ticks at most.
        variables: Environment variables.
    """
    ticks: list[Any] = []
    while not ticks or ticks[-1]["run_id"] is not None:
        assert len(ticks) < most, ticks[-1]
        ticks.append(
            tick_json(shop.project, "--at", at.isoformat(), DAGSTER_HOME=home, **variables)
        )
    return ticks


def evaluated(instance: dg.DagsterInstance, asset: str) -> list[list[str]]:
    """The intervals that Dagster has been told of, oldest materialization first."""
    intervals: list[list[str]] = []
    records = instance.fetch_materializations(dg.AssetKey(asset.split("/")), limit=1000).records
    for record in reversed(records):
        materialization = record.asset_materialization
        assert materialization is not None
        if materialization.metadata["sqlmesh/outcome"].value == "executed":
            intervals += ranges(materialization.metadata["sqlmesh/intervals"])
    return intervals


def disagreements(instance: dg.DagsterInstance, shop: Warehouse, since: datetime) -> list[str]:
    """What Dagster shows and SQLMesh did not do, or the other way round; empty when all is well.

    Every interval from a moment on that SQLMesh has recorded of a model has been reported for its
    asset, once, and no other has.
    """
    differences = []
    for name, recorded in shop.intervals().items():
        reported = evaluated(instance, name.replace(".", "/"))
        counts = Counter(map(tuple, reported))
        doubled = [interval for interval, count in counts.items() if count > 1]
        if doubled:
            differences.append(f"{name}: reported more than once: {doubled}")
        ends = [end for start, end in recorded if end > since.isoformat()]
        covered = _merged([interval for interval in reported if interval[1] > since.isoformat()])
        expected = [[since.isoformat(), end] for end in ends]
        if covered != expected:
            differences.append(f"{name}: reported {covered}, recorded {expected}")
    return differences


def _merged(intervals: list[list[str]]) -> list[list[str]]:
    merged: list[list[str]] = []
    for start, end in sorted(intervals):
        if merged and start <= merged[-1][1]:
            merged[-1][1] = max(end, merged[-1][1])
        else:
            merged.append([start, end])
    return merged
