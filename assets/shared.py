"""The shared execution: one for all steps of a run.

The first step that needs it starts it in a thread; every step waits for its own model's outcome.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

import dagster as dg
from dagster._core.errors import DagsterExecutionInterruptedError
from dagster._core.storage.dagster_run import DagsterRun

from ..config.settings import AutomationSettings
from .ledger import Ledger
from .outcome import Outcome, OutcomeStatus
from .report import runless_materialization
from .specs import AssetIndex

EXECUTION_TIME_TAG = "sqlmesh/execution_time"
"""Run tag: the moment for which the run is done, where it is not the wall clock's."""


class Observer(Protocol):
    """Watches an execution, for example to draw a progress bar."""

    def started(self, models: int) -> None:
        """The execution starts, with so many models selected."""

    def finished(self, outcome: Outcome) -> None:
        """A model has its outcome."""

    def ended(self, error: BaseException | None) -> None:
        """Nothing follows; the error with which the execution gave up, where it did."""


@dataclass
class SharedExecution:
    """One SQLMesh execution for one Dagster run.

    Attributes:
        settings: The SQLMesh environment.
        index: The definitions that the run's steps come from.
        instance: Where the run is recorded.
        run: The run.
        observer: Told of progress.
    """

    settings: AutomationSettings
    index: AssetIndex
    instance: dg.DagsterInstance
    run: DagsterRun
    observer: Observer | None = None
    _thread: threading.Thread | None = field(default=None, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)
    _cancelled: threading.Event = field(default_factory=threading.Event, init=False)
    _selected: frozenset[str] = field(default=frozenset(), init=False)
    _taken: set[str] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        self.ledger = Ledger(self.instance, self.run)

    def outcome(self, model: str, selected: frozenset[str]) -> Outcome:
        """Waits for a model's outcome, and starts the execution where no step has yet.

        Args:
            model: The model's ``fqn``.
            selected: ``fqn`` of all models and standalone audits in the run.

        Raises:
            ExecutionError: The execution could not start, or ended without the outcome.
        """
        with self._lock:
            if self._thread is None:
                self._start(selected)
        try:
            outcome = self.ledger.wait(model, self.index.names[model])
        except DagsterExecutionInterruptedError:
            # At once: by the time the resource is closed, SQLMesh may have begun the next model.
            self._cancelled.set()
            raise
        # Only now: a step that is interrupted while it waits does not report.
        self._taken.add(model)
        return outcome

    def evaluated_unselected(self) -> set[dg.AssetKey]:
        """Assets whose models SQLMesh has evaluated so far without their being in the run."""
        return {
            self.index.keys[outcome.model]
            for outcome in self.ledger.outcomes.values()
            if outcome.model in self.index.keys.keys() - self._selected
        }

    def close(self) -> None:
        """Ends the execution at the next model, where it still goes on, and waits for that.

        What SQLMesh evaluated and no step of the run came to report (the run was terminated, or
        a step that is not SQLMesh's failed in between) is reported here.
        """
        if self._thread is None:
            return
        # The last step has its outcome, or the run is being terminated: either way nobody waits
        # for what SQLMesh has not started yet.
        self._cancelled.set()
        self._thread.join()
        for outcome in self.ledger.outcomes.values():
            if outcome.model in self._selected - self._taken:
                self._report_runless(outcome)

    def _start(self, selected: frozenset[str]) -> None:
        self._selected = selected
        self.ledger.start(len(self._selected))
        if self.observer is not None:
            self.observer.started(len(self._selected))
        self._thread = threading.Thread(target=self._execute, name=f"sqlmesh-{self.run.run_id[:8]}")
        self._thread.start()

    def _execute(self) -> None:
        error: BaseException | None = None
        try:
            from .execution import ExecutionRequest, execute
            from .recorder import Recorder

            at = self.run.tags.get(EXECUTION_TIME_TAG)
            request = ExecutionRequest(
                selected={model: self.index.names[model] for model in self._selected},
                at=datetime.fromisoformat(at) if at else datetime.now(UTC),
                cancelled=self._cancelled.is_set,
                say=self.ledger.say,
            )
            execute(self.settings, request, Recorder(self._record))
        except BaseException as caught:  # noqa: BLE001 - handed to every waiting step
            error = caught
        finally:
            if self.observer is not None:
                self.observer.ended(error)
            self.ledger.end(error)

    def _record(self, outcome: Outcome) -> None:
        selected = outcome.model in self._selected
        if not selected:
            self._report_runless(outcome)
        self.ledger.record(outcome, self.index.op_names.get(outcome.model) if selected else None)
        if self.observer is not None:
            self.observer.finished(outcome)

    def _report_runless(self, outcome: Outcome) -> None:
        key = self.index.keys.get(outcome.model)
        if outcome.status is OutcomeStatus.EXECUTED and key is not None:
            self.instance.report_runless_asset_event(
                runless_materialization(key, outcome, self.run.run_id)
            )


def shared_execution_resource(
    settings: AutomationSettings, index: AssetIndex, observer: Observer | None = None
) -> dg.ResourceDefinition:
    """The resource through which all steps of a run in one process share one execution."""

    @dg.resource(description=f"The SQLMesh execution of a run in {settings.environment!r}")
    def shared_execution(context: dg.InitResourceContext) -> Iterator[SharedExecution]:
        assert context.run is not None
        assert context.instance is not None
        execution = SharedExecution(settings, index, context.instance, context.run, observer)
        try:
            yield execution
        finally:
            execution.close()

    return shared_execution
