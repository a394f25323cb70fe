"""The shared execution: one for all steps of a run, however many processes they have.

The first step that needs it starts it in a thread of its process. Every step waits for its own
model's outcome: in that process in memory, in others by reading the ledger. Where the process that
executes dies, the process of another step takes over.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import dagster as dg

from ...config.errors import ExecutionAborted, OutcomeMissing
from ...config.settings import AutomationSettings
from ..definitions.specs import AssetIndex
from ..ledger.history import RoundOver
from ..ledger.ledger import Ledger, has_step_workers
from ..ledger.outcome import Outcome
from ..worker.places import Place, Places
from .pace import Pace
from .report import report_without_step
from .round import RoundThread
from .run_side import Observer, RunParts
from .selection import Selection, selection

_FIRST_POLL_SECONDS = 0.1
_LONGEST_POLL_SECONDS = 1.0


@dataclass
class SharedExecution:
    """One SQLMesh execution for one Dagster run, as one process of the run takes part in it.

    Attributes:
        settings: The SQLMesh environment.
        index: The definitions that the run's steps come from.
        instance: Where the run is recorded.
        run: The run.
        place: Where SQLMesh executes.
        observer: Is told of progress.
    """

    settings: AutomationSettings
    index: AssetIndex
    instance: dg.DagsterInstance
    run: dg.DagsterRun
    place: Place
    observer: Observer | None = None
    _thread: RoundThread | None = field(default=None, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)
    _of_run: Selection | None = field(default=None, init=False)
    _selected: Selection = field(default_factory=lambda: Selection(frozenset()), init=False)
    _taken: set[str] = field(default_factory=set, init=False)
    _rounds: dict[tuple[int, frozenset[str]], tuple[Set[str], str | None]] = field(
        default_factory=dict, init=False
    )

    def __post_init__(self) -> None:
        self._pace = Pace()
        self.ledger = Ledger(self.instance, self.run, self.index.scope)

    def start(self) -> None:
        """Has SQLMesh's process start while Dagster starts, where this process will need it."""
        if self._alone:
            self.place.start()

    def selection(self, context: Any) -> Selection:
        """What the run is to evaluate: the same for all its steps, so worked out once.

        Args:
            context: The context of any step of the run.
        """
        if self._of_run is None:
            self._of_run = selection(context, self.index)
        return self._of_run

    def outcome(self, model: str, selected: Selection, *, step: str, retries: int = 0) -> Outcome:
        """Waits for a model's outcome, and executes where no other process of the run does.

        Args:
            model: The model's ``fqn``.
            selected: What the run is to evaluate.
            step: Key of the step that asks.
            retries: How many times the step has failed before, in this run. Its outcome then
                comes from a further execution of all that has not succeeded.

        Raises:
            ExecutionError: The execution gave up, or ended without the outcome.
        """
        self._selected = selected
        after = self.ledger.failed_round(model, step) if retries else 0
        with self._stopping_at_once():
            self._wait(
                lambda: self.ledger.find(model, after) is not None,
                lambda: self.ledger.history.wanted_round(model, after),
                model,
                after,
            )
        answer = self.ledger.find(model, after)
        assert answer is not None
        if isinstance(answer, RoundOver):
            name = self.index.names[model]
            if answer.error is not None:
                raise ExecutionAborted(name, answer.error)
            raise OutcomeMissing(name, self.run.run_id)
        # Only now: a step that is interrupted while it waits does not report.
        self._taken.add(model)
        self._pace.taken()
        return answer

    def end_error(self, model: str) -> str | None:
        """Waits for the end of a round, in the one step that answers for it.

        After its last model SQLMesh has things to do (``after_all``), which may fail when all
        steps have their outcomes. Dagster has nothing else that fails a run under every executor,
        so that one step of a round fails with it, after it has reported its own model.

        Args:
            model: The model of the step that asks, which has its outcome.

        Returns:
            Why the execution failed after its last model; ``None`` where it did not, and at once
            for every other step.
        """
        number = self.ledger.history.last_round(model)
        current = self.ledger.history.round(number)
        models, closing = self._dealt_with(number, current.left_out)
        if model != closing:
            return None
        with self._stopping_at_once():
            self._wait(lambda: current.ended, lambda: number, model, after=0)
        # What has no outcome fails its own step with the error.
        return current.error if models <= current.outcomes.keys() else None

    def evaluated_unselected(self, keys: Set[dg.AssetKey]) -> set[dg.AssetKey]:
        """Those assets whose models SQLMesh has evaluated so far without their being in the run."""
        return {
            key
            for key in keys
            if (model := self.index.models.get(key)) is not None
            and model not in self._selected.models
            and self.ledger.outcome(model) is not None
        }

    def close(self) -> None:
        """Ends what this process has to do with the execution; the last thing it does.

        In a process of its own a step's part ends here, and other steps wait for the rest of the
        execution. Where all steps of the run are in this process, nobody waits any more: it ends
        at the next model, and what was evaluated and no step came to report (the run was
        terminated, or a step that is not SQLMesh's failed in between) is reported now.
        """
        try:
            self._finish()
        finally:
            self.place.close()

    def _finish(self) -> None:
        if self._thread is None:
            return
        if self._alone:
            self._thread.cancel()
        self._thread.join()
        if self._alone:
            for outcome in self.ledger.outcomes().values():
                if outcome.model in self._selected.models and outcome.model not in self._taken:
                    report_without_step(self.instance, self.index, outcome, self.run.run_id)

    def _dealt_with(self, number: int, left_out: frozenset[str]) -> tuple[Set[str], str | None]:
        """What a round deals with, and the model of it whose step answers for the round's end."""
        # Worked out once for the thousands of steps that may ask.
        if (number, left_out) not in self._rounds:
            models = self.ledger.history.dealt_with(number, self._selected.models)
            self._rounds[number, left_out] = models, self._selected.closing(models)
        return self._rounds[number, left_out]

    @cached_property
    def _alone(self) -> bool:
        """Whether all steps of the run are in this process, so that no other one records."""
        return not has_step_workers(self.instance, self.run.run_id)

    @contextmanager
    def _stopping_at_once(self) -> Iterator[None]:
        """Stops SQLMesh where the step is interrupted while it waits."""
        try:
            yield
        except dg.DagsterExecutionInterruptedError:
            # At once: by the time the resource is closed, SQLMesh may have begun the next model.
            if self._thread is not None:
                self._thread.interrupt()
            raise

    def _wait(
        self, is_there: Callable[[], bool], wanted: Callable[[], int], model: str, after: int
    ) -> None:
        """Waits until something is in the ledger, and executes where no process does that lives.

        Args:
            is_there: Returns whether it is.
            wanted: Returns the number of the round that is waited for.
            model: The model that is waited for.
            after: The round with which the last attempt of its step failed, or 0.
        """
        pause = _FIRST_POLL_SECONDS
        while True:
            # Where it has the lease, or nobody else is there, it knows all that is recorded.
            if self._thread is None or not (self._thread.executing or self._alone):
                self.ledger.refresh()
            if is_there():
                return
            self._lead(wanted(), model, after)
            with self._pace.waiting():
                self.ledger.wait(pause)
            pause = min(2 * pause, _LONGEST_POLL_SECONDS)

    def _lead(self, number: int, model: str, after: int) -> None:
        """Executes a round where no process does that lives."""
        with self._lock:
            if self._thread is not None and self._thread.alive:
                return
            if self.ledger.leader(number) is None:
                self.ledger.claim(number)
                self.ledger.refresh()
            # Several processes may be ready at once. The lease lets one of them execute.
            if self.ledger.leader(number) == self.ledger.process:
                history = self.ledger.history
                repeats = bool(after) or not history.was_left_out(model, number)
                self._thread = RoundThread(
                    number,
                    history.left(number, self._selected.ready(model), repeats=repeats),
                    self._selected,
                    RunParts(
                        self.settings,
                        self.index,
                        self.ledger,
                        self.instance,
                        self.run,
                        self.observer,
                        self.place,
                        self._pace if self._alone else None,
                        self.index.op_names.get(model),
                    ),
                )


def shared_execution_resource(
    settings: AutomationSettings,
    index: AssetIndex,
    places: Places,
    observer: Observer | None = None,
) -> dg.ResourceDefinition:
    """The resource through which all steps of a run in one process share one execution.

    Args:
        settings: The SQLMesh environment.
        index: The definitions that the run's steps come from.
        places: Makes the place where SQLMesh executes.
        observer: Is told of progress.
    """

    @dg.resource(description=f"The SQLMesh execution of a run in {settings.environment!r}")
    def shared_execution(context: dg.InitResourceContext) -> Iterator[SharedExecution]:
        assert context.run is not None
        assert context.instance is not None
        execution = SharedExecution(
            settings, index, context.instance, context.run, places(), observer
        )
        try:
            execution.start()
            yield execution
        finally:
            execution.close()

    return shared_execution
