"""Whether Dagster shows what SQLMesh did, once nothing goes on any more."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import dagster as dg

from .schema import tick_json
from .warehouse import Warehouse


def tick_until_idle(shop: Warehouse, home: Path, at: datetime, most: int = 4) -> list[Any]:
    """Ticks of the command line until one asks for nothing; their documents."""
    found: list[Any] = []
    while not found or found[-1]["run_id"] is not None:
        assert len(found) < most, found[-1]
        found.append(tick_json(shop.project, "--at", at.isoformat(), DAGSTER_HOME=home))
    return found


def evaluated(instance: dg.DagsterInstance, asset: str) -> list[list[str]]:
    """The intervals that Dagster has been told of, oldest materialization first."""
    found: list[list[str]] = []
    records = instance.fetch_materializations(dg.AssetKey(asset.split("/")), limit=1000).records
    for record in reversed(records):
        made = record.asset_materialization
        assert made is not None
        if made.metadata["sqlmesh/outcome"].value == "executed":
            found += made.metadata["sqlmesh/intervals"].value  # type: ignore[arg-type]
    return found


def disagreements(instance: dg.DagsterInstance, shop: Warehouse, since: datetime) -> list[str]:
    """What Dagster shows and SQLMesh did not do, or the other way round; empty when all is well.

    Every interval from a moment on that SQLMesh has recorded of a model has been reported for its
    asset, once, and no other has.
    """
    found = []
    for name, recorded in shop.intervals().items():
        told = evaluated(instance, name.replace(".", "/"))
        doubled = [each for each, count in Counter(map(tuple, told)).items() if count > 1]
        if doubled:
            found.append(f"{name}: reported more than once: {doubled}")
        ends = [end for start, end in recorded if end > since.isoformat()]
        covered = _merged([each for each in told if each[1] > since.isoformat()])
        expected = [[since.isoformat(), end] for end in ends]
        if covered != expected:
            found.append(f"{name}: reported {covered}, recorded {expected}")
    return found


def _merged(intervals: list[list[str]]) -> list[list[str]]:
    merged: list[list[str]] = []
    for start, end in sorted(intervals):
        if merged and start <= merged[-1][1]:
            merged[-1][1] = max(end, merged[-1][1])
        else:
            merged.append([start, end])
    return merged
