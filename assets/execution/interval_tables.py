"""Intervals as tables that people read in Dagster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import dagster as dg

from ..intervals import MOST_RANGES, Interval, Record, contiguous, outside
from ..ledger.outcome import Outcome

INTERVALS = "sqlmesh/intervals"
"""Metadata: what was evaluated."""

RECORDED = "sqlmesh/recorded"
"""Metadata: what SQLMesh has recorded since the model's start, and what it misses."""

_MOST_ROWS = 2 * MOST_RANGES
_RANGE = ("from", "to")
_PICTURE = (*_RANGE, "state", "run", "plan")


def interval_tables(outcome: Outcome, run_id: str) -> dict[str, Any]:
    """Returns an outcome's intervals as metadata.

    Args:
        outcome: The outcome.
        run_id: The run that has it; empty if none has.
    """
    tables: dict[str, Any] = {}
    if outcome.intervals:
        evaluated = [{"from": spoken(start), "to": spoken(end)} for start, end in outcome.intervals]
        tables[INTERVALS] = _table(_RANGE, evaluated)
    if outcome.recorded is not None:
        by = {"run": run_id[:8], "plan": (outcome.plan or "")[:8]}
        rows = list(islice(_rows(outcome.recorded, outcome, by), _MOST_ROWS))
        tables[RECORDED] = _table(_PICTURE, rows)
    return tables


def spoken(moment: datetime) -> str:
    """Returns a moment as it stands in the tables."""
    clock = "%H:%M:%S" if moment.second else "%H:%M"
    return f"{moment.astimezone(UTC):%Y-%m-%d {clock}} UTC"


def _rows(record: Record, outcome: Outcome, by: dict[str, str]) -> Iterator[dict[str, str]]:
    """Yields the picture, newest first: what is to come, what is there, what is missing."""
    if outcome.next_interval is not None:
        yield {
            "from": spoken(max(record.due, record.start)),
            "to": "",
            "state": (f"next, due {spoken(outcome.next_interval)}"),
        }
    for (start, end), state in sorted(_pieces(record, outcome.intervals), reverse=True):
        known = by if state.startswith("evaluated") else {}
        yield {"from": spoken(start), "to": spoken(end), "state": state, **known}
    if record.earlier:
        yield {"from": "", "to": "", "state": f"{record.earlier} earlier ranges"}


def _pieces(record: Record, evaluated: Sequence[Interval]) -> Iterator[tuple[Interval, str]]:
    """Yields each piece of time with what is known of it, in no order."""
    for missing in record.missing:
        yield missing, "missing"
    now = contiguous(evaluated)
    for piece in record.ranges:
        for old in outside(piece, now):
            yield from _states(record, old, "recorded")
    for piece in now:
        yield from _states(record, piece, "evaluated now")


def _states(record: Record, piece: Interval, state: str) -> Iterator[tuple[Interval, str]]:
    """Yields a recorded piece, apart from what of it had not ended."""
    start, end = piece
    if start < record.ended:
        yield (start, min(end, record.ended)), state
    if end > record.ended:
        kind = "partial" if end <= record.at else "ahead of time"
        yield (max(start, record.ended), end), f"{state}, {kind}"


def _table(columns: Sequence[str], rows: Sequence[dict[str, str]]) -> dg.TableMetadataValue:
    return dg.MetadataValue.table(
        records=[dg.TableRecord({name: row.get(name, "") for name in columns}) for row in rows],
        schema=dg.TableSchema([dg.TableColumn(name, "string") for name in columns]),
    )
