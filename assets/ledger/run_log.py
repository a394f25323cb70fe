"""A run's log as the ledger reads it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

import dagster as dg

from ..dagster_internals import EngineEventData, EventLogCursor

SCOPE = "sqlmesh/scope"
"""Names the environment that an event of a run is about."""

_LATE_SECONDS = 10.0
"""How late an event may show up behind one with a higher id: PostgreSQL gives the id out before
the transaction that writes the event commits."""


class RunLog:
    """A run's engine events, read further and further.

    Reads the last seconds again each time, because an event may show up late.
    """

    def __init__(self, instance: dg.DagsterInstance, run_id: str) -> None:
        self._instance, self._run_id = instance, run_id
        self._settled: int | None = None
        self._recent: dict[int, float] = {}

    def news(self) -> Iterator[tuple[int, dg.DagsterEvent]]:
        """The events that it has not given before, with their places in the log."""
        now = time.monotonic()
        old = [number for number, seen in self._recent.items() if now - seen > _LATE_SECONDS]
        if old:
            self._settled = max(old)
            self._recent = {n: seen for n, seen in self._recent.items() if n > self._settled}
        cursor = None
        if self._settled is not None:
            cursor = EventLogCursor.from_storage_id(self._settled).to_string()
        page = self._instance.get_records_for_run(
            self._run_id, cursor=cursor, of_type=dg.DagsterEventType.ENGINE_EVENT
        )
        for record in page.records:
            event = record.event_log_entry.dagster_event
            if record.storage_id not in self._recent and event is not None:
                self._recent[record.storage_id] = now
                yield record.storage_id, event


def events(
    instance: dg.DagsterInstance, run_id: str, types: set[dg.DagsterEventType]
) -> Iterator[dg.DagsterEvent]:
    """A run's events of some types, oldest first.

    Dagster's public event-log API serves asset events only; ``get_records_for_run`` is what its
    own executors read a run's events with. Without a limit it gives them all.
    """
    for record in instance.get_records_for_run(run_id, of_type=types).records:
        if (event := record.event_log_entry.dagster_event) is not None:
            yield event


def engine_metadata(event: dg.DagsterEvent, scope: str) -> Mapping[str, dg.MetadataValue]:
    """What an event of an environment's ledger says; nothing where it is none."""
    data = event.event_specific_data
    metadata = data.metadata if isinstance(data, EngineEventData) else {}
    return metadata if metadata.get(SCOPE) == dg.MetadataValue.text(scope) else {}
