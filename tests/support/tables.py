"""Intervals as the tables of metadata have them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import dagster as dg


def rows(table: Any) -> list[dict[str, Any]]:
    """The rows of a table in metadata; of its value, or of what holds it."""
    assert isinstance(table, dg.TableMetadataValue)
    return [dict(record.data) for record in table.records]


def ranges(table: Any) -> list[list[str]]:
    """The ranges of ``sqlmesh/intervals``, each end in ISO 8601."""
    return [[_iso(row["from"]), _iso(row["to"])] for row in rows(table)]


def evaluated(metadata: Any) -> list[list[str]]:
    """What metadata says was evaluated; nothing where it holds no such table."""
    return ranges(metadata["sqlmesh/intervals"]) if "sqlmesh/intervals" in metadata else []


def _iso(text: str) -> str:
    clock = "%H:%M:%S" if text.count(":") == 2 else "%H:%M"
    moment = datetime.strptime(text, f"%Y-%m-%d {clock} UTC").replace(tzinfo=UTC)
    return moment.isoformat()
