"""The record of one run's execution and its outcomes.

Kept twice: in memory, where the steps of this process wait for it, and as engine events in
Dagster's event log, where it outlives the process and reads well to a person in the run's log.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator, Mapping

import dagster as dg
from dagster._core.events import EngineEventData
from dagster._core.storage.dagster_run import DagsterRun

from ..config.errors import ExecutionAborted, ExecutionIsolated, OutcomeMissing
from .outcome import Outcome

_OUTCOME = "sqlmesh/outcome_record"
_CLAIM = "sqlmesh/execution_claim"
_STARTED = "sqlmesh/execution_started"


class Ledger:
    """The ledger of one run, as the process that executes sees it.

    Args:
        instance: Where the run's events are kept.
        run: The run.
    """

    def __init__(self, instance: dg.DagsterInstance, run: DagsterRun) -> None:
        self._instance = instance
        self._run = run
        self._changed = threading.Condition()
        self._outcomes: dict[str, Outcome] = {}
        self._ended = False
        self._error: BaseException | None = None

    def start(self, models: int) -> None:
        """Claims the run's execution for this process and records that it starts.

        Args:
            models: How many are selected.

        Raises:
            ExecutionIsolated: Another process of this run has started one, which would evaluate
                models twice.
        """
        token = f"{socket.gethostname()}:{os.getpid()}"
        self.say(f"SQLMesh is to run in process {token}", {_CLAIM: token})
        # The log only grows and every process reads it alike, so the first claim wins.
        claims = (
            metadata[_CLAIM].value
            for _, metadata in _engine_events(self._instance, self._run.run_id)
            if _CLAIM in metadata
        )
        if next(claims) != token:
            raise ExecutionIsolated(self._run.run_id)
        self.say(
            f"SQLMesh execution of {models} model{'s' * (models != 1)} started",
            {_STARTED: token},
        )

    def say(
        self, message: str, metadata: Mapping[str, object] | None = None, step: str | None = None
    ) -> None:
        """Writes a line to the run's log, as one of a step's lines where it is about one."""
        self._instance.report_engine_event(
            message,
            self._run,
            EngineEventData(metadata=_metadata(metadata or {})),
            step_key=step,
        )

    def record(self, outcome: Outcome, step: str | None) -> None:
        """Records a model's outcome: in the event log first, then for the waiting steps."""
        self.say(outcome.summary(), {_OUTCOME: outcome.to_json()}, step)
        with self._changed:
            self._outcomes[outcome.model] = outcome
            self._changed.notify_all()

    def end(self, error: BaseException | None) -> None:
        """Records that the execution has ended; nothing follows."""
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()

    def wait(self, model: str, name: str) -> Outcome:
        """Waits for a model's outcome.

        Raises:
            ExecutionAborted: The execution stopped with an error before the model had one.
            OutcomeMissing: The execution ended and left the model out.
        """
        with self._changed:
            while model not in self._outcomes:
                if self._ended:
                    if self._error is not None:
                        raise ExecutionAborted(name, str(self._error)) from self._error
                    raise OutcomeMissing(name, self._run.run_id)
                # Woken regularly, so that a termination reaches the waiting step.
                self._changed.wait(timeout=1.0)
            return self._outcomes[model]

    @property
    def outcomes(self) -> Mapping[str, Outcome]:
        """What has been recorded by this process so far, by ``fqn``."""
        with self._changed:
            return dict(self._outcomes)


def read_outcomes(instance: dg.DagsterInstance, run_id: str) -> dict[str, Outcome]:
    """The outcomes that a run has recorded, by ``fqn``; the last one where there are several."""
    return {
        outcome.model: outcome
        for _, metadata in _engine_events(instance, run_id)
        if (record := metadata.get(_OUTCOME)) is not None
        for outcome in (Outcome.from_json(record.value),)  # type: ignore[arg-type]
    }


def executions_started(instance: dg.DagsterInstance, run_id: str) -> int:
    """How many SQLMesh executions a run has started."""
    return sum(_STARTED in metadata for _, metadata in _engine_events(instance, run_id))


def _metadata(values: Mapping[str, object]) -> dict[str, dg.MetadataValue]:
    return {
        key: dg.MetadataValue.json(value)
        if isinstance(value, dict)
        else dg.MetadataValue.text(str(value))
        for key, value in values.items()
    }


def _engine_events(
    instance: dg.DagsterInstance, run_id: str
) -> Iterator[tuple[str, Mapping[str, dg.MetadataValue]]]:
    """A run's engine events, oldest first.

    Dagster's public event-log API serves asset events only; ``get_records_for_run`` is what its
    own executors read a run's events with.
    """
    cursor = None
    while True:
        page = instance.get_records_for_run(
            run_id, cursor=cursor, of_type=dg.DagsterEventType.ENGINE_EVENT
        )
        for record in page.records:
            event = record.event_log_entry.dagster_event
            data = event.event_specific_data if event is not None else None
            if isinstance(data, EngineEventData):
                yield record.event_log_entry.message, data.metadata
        if not page.has_more:
            return
        cursor = page.cursor
