"""Signals of the jaffle shop: they say which intervals of a model have their data."""

from __future__ import annotations

from sqlmesh import ExecutionContext, signal
from sqlmesh.utils.date import DatetimeRanges, to_datetime


@signal()
def raw_loads_complete(batch: DatetimeRanges, context: ExecutionContext) -> bool | DatetimeRanges:
    """Holds a model until the loader has delivered all orders of an interval.

    The loader writes the moment up to which it has loaded a table to ``raw.loads``, in UTC.

    Args:
        batch: Contiguous intervals that SQLMesh would evaluate; their ends are exclusive.
        context: Gives access to the engine.

    Returns:
        The intervals that end at or before ``loaded_until`` of ``raw.orders``. The rest stays
        missing, and SQLMesh asks again at the next run.
    """
    row = context.engine_adapter.fetchone(
        "SELECT loaded_until FROM raw.loads WHERE table_name = 'raw.orders'"
    )
    if row is None or row[0] is None:
        return False
    # DuckDB returns a datetime without a zone; SQLMesh's intervals are aware, in UTC.
    loaded_until = to_datetime(row[0])
    return [(start, end) for start, end in batch if end <= loaded_until]
