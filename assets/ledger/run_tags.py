"""Tags of this package on Dagster runs, read in one place: anybody can edit a run's tags."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from ...config.errors import RunTagInvalid
from .process import is_process

EXECUTION_TIME_TAG = "sqlmesh/execution_time"
"""The moment for which a run is done, in ISO 8601, where that is not its start."""

BACKFILL_TAG = "dagster/backfill"
"""Dagster's own: the backfill that a run belongs to."""

MODELS_TAG = "sqlmesh/models"
"""How many models a run evaluates that the automation requests; no other run has the tag."""

PROCESS_TAG = "sqlmesh/process"
"""The process that a run lives in, where Dagster does not look after that itself."""


def execution_time(tags: Mapping[str, str], run_id: str) -> datetime | None:
    """The moment for which a run is done, in UTC; ``None`` where it has no such tag.

    Raises:
        RunTagInvalid: The tag holds no moment with a zone.
    """
    if (text := tags.get(EXECUTION_TIME_TAG)) is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    accepted = "a moment in ISO 8601 with its zone, such as 2026-11-24T00:05:00+00:00"
    raise RunTagInvalid(EXECUTION_TIME_TAG, text, run_id, accepted)


def process(tags: Mapping[str, str], run_id: str) -> str | None:
    """The process that a run lives in; ``None`` where it has no such tag.

    Raises:
        RunTagInvalid: The tag holds no name of a process.
    """
    if (name := tags.get(PROCESS_TAG)) is None or is_process(name):
        return name
    raise RunTagInvalid(PROCESS_TAG, name, run_id, "host:pid:random, as this package writes it")
