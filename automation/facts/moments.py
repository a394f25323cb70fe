"""When Dagster's runs began and ended, by the clock on the wall or simulated."""

from __future__ import annotations

from datetime import UTC, datetime

import dagster as dg

from ...assets.ledger.run_tags import execution_time
from ...config.errors import RunTagInvalid


def moment_of(record: dg.RunRecord, timestamp: float | None = None) -> datetime:
    """The moment for which a run is done; unless it is simulated, a moment of its own.

    Args:
        record: The run.
        timestamp: That moment, in seconds since 1970; its start when ``None``.
    """
    run = record.dagster_run
    own = started(record) if timestamp is None else datetime.fromtimestamp(timestamp, tz=UTC)
    try:
        return execution_time(run.tags, run.run_id) or own
    except RunTagInvalid:
        # Named where the run counts as an attempt, and by the run itself, which fails with it.
        return own


def started(record: dg.RunRecord) -> datetime:
    """When a run started by the clock on the wall, or was made if it has not, aware."""
    timestamp = record.start_time or record.create_timestamp.timestamp()
    return datetime.fromtimestamp(timestamp, tz=UTC)
