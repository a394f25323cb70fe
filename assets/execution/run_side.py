"""What an execution is told of its run, and what is made of what it tells."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Protocol

import dagster as dg

from ...config.errors import LedgerBroken, WorkerDied
from ...config.settings import AutomationSettings
from ..dagster_internals import is_marked_as_cancelled
from ..definitions.specs import AssetIndex
from ..intervals import Interval
from ..ledger.history import RunEvent
from ..ledger.ledger import Ledger, has_step_workers, read_history
from ..ledger.outcome import Legacy, Outcome, is_alone
from ..worker.places import Place
from .deaths import Deaths
from .hard_stop import HardStop
from .looks import goes_on
from .metrics import ExecutionMetrics
from .pace import Pace
from .report import report_without_step
from .withheld import OutcomeWithholding

_LOOK_SECONDS = 2.0
"""How often it looks whether others have been heard of while it waits."""

FRESH_SECONDS = 0.25
"""Models that follow each other faster share a look at whether the run goes on."""

_LONG_START_SECONDS = 1.0
"""How long an execution may take to start, SQLMesh and the lease, before the run's log says so."""

_TERMINATED = frozenset({dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED})
"""What Dagster marks a run with that a person terminates."""

_log = logging.getLogger(__name__)


class Observer(Protocol):
    """Watches an execution, for example to draw a progress bar."""

    def started(self, models: int) -> None:
        """The execution starts, with so many models selected."""

    def finished(self, outcome: Outcome) -> None:
        """A model has its outcome."""

    def ended(self, error: BaseException | None) -> None:
        """Nothing follows; the error with which the execution gave up, where it did."""


@dataclass(frozen=True, slots=True)
class RunParts:
    """What every round of a run works with.

    Attributes:
        settings: The SQLMesh environment.
        index: The definitions that the run's steps come from.
        ledger: The run's ledger.
        instance: Where the run is recorded.
        run: The run.
        observer: Is told of progress; ``None`` where nobody listens.
        place: Where SQLMesh executes.
        pace: Keeps SQLMesh near the steps, where all of them are in this process.
        step: The step that has the round begin.
    """

    settings: AutomationSettings
    index: AssetIndex
    ledger: Ledger
    instance: dg.DagsterInstance
    run: dg.DagsterRun
    observer: Observer | None
    place: Place
    pace: Pace | None
    step: str | None


class RoundSide:
    """Dagster's side of one round: a :class:`.RunSide` that answers from the ledger.

    Args:
        number: The round's number in the run, from 1.
        selected: ``fqn`` of the models and standalone audits that the round deals with.
        in_run: ``fqn`` of all that the run selects.
        parts: What every round of the run works with.

    Attributes:
        cancelling: Set once SQLMesh is to stop before the next model.
        deaths: What is in flight, should SQLMesh's process end.
        admitted: Whether SQLMesh's side has had the lease.
    """

    def __init__(
        self, number: int, selected: Sequence[str], in_run: Set[str], parts: RunParts
    ) -> None:
        self._number, self._selected, self._in_run = number, selected, in_run
        self._index, self._ledger = parts.index, parts.ledger
        self._instance, self._run, self._observer = parts.instance, parts.run, parts.observer
        self._pace, self._step = parts.pace, parts.step
        self._began = time.monotonic()
        self.cancelling = threading.Event()
        self._stop = HardStop(parts.settings.cancel_grace_seconds)
        self.deaths = Deaths(parts.index, parts.place, self._stop, self.record, self.say)
        self.admitted = False
        self._broken: LedgerBroken | None = None
        self._looked = 0.0
        self._asked = 0.0
        self._metrics = ExecutionMetrics(parts.settings)
        self._withhold = OutcomeWithholding(parts.settings)

    def admit(self) -> Legacy | None:
        """Tells what a process before this one has left behind; ``None`` after the round's end.

        With the lease in hand, all that such a process recorded is in the ledger.
        """
        self._ledger.refresh()
        current = self._ledger.history.round(self._number)
        if current.ended:
            return None
        self.admitted = True
        self._metrics.admitted()
        left = self._left()
        alone = sum(map(is_alone, left))
        is_first = self._number == 1 and not current.started
        models = len(left) - alone
        self._ledger.started(self._number, models, self._left_out(), alone, self._slow_start())
        if self._observer is not None:
            self._observer.started(len(left))
        return Legacy(
            outcomes=dict(current.outcomes),
            planned=dict(current.planned),
            is_first=is_first,
            owes_end=bool(current.planned) or self._repeats_end(),
        )

    def cancelled(self) -> bool:
        """Asked before each model: nobody interrupts a process whose own step has ended."""
        now = time.monotonic()
        # Not the pulse's looks: what a person stops while a model runs, stops before the next one.
        if now - self._asked > FRESH_SECONDS and not self.cancelling.is_set():
            self._asked = now
            self.safely(self.look_at_run)
        return self.cancelling.is_set()

    def interrupted(self) -> None:
        """Takes an interrupt of this process: a second one stops what the first has let go on."""
        self._stop.interrupted()
        self.cancelling.set()

    def killed(self) -> bool:
        """Whether to cancel what is being evaluated, and stop at once."""
        return self._stop.reached

    def given_up(self) -> bool:
        """Whether to stop waiting for the lease: the run ends, or another process leads."""
        if time.monotonic() - self._looked > _LOOK_SECONDS:
            self._looked = time.monotonic()
            self._ledger.refresh()
        leads = self._ledger.leader(self._number) == self._ledger.process
        return self.cancelling.is_set() or not leads

    def handed_over(self) -> bool:
        """Whether this process has to stop and the run goes on: another one takes over then."""
        if not self.cancelling.is_set() or self._broken is not None:
            return False
        if self._status() is not dg.DagsterRunStatus.STARTED:
            return False
        return has_step_workers(self._instance, self._run.run_id)

    def terminated(self) -> bool:
        """Whether a person has terminated the run, by the mark that Dagster makes of it."""
        return self._status() in _TERMINATED

    def run_event(self, gave_up: bool) -> RunEvent | None:
        """What has come about of the run, if this process has ended the round."""
        if self._left() and self.handed_over():
            return None
        gave_up = gave_up or self._broken is not None
        return self._ledger.history.run_event(self._number, self._in_run, gave_up=gave_up)

    def plan(self, batches: Mapping[str, Sequence[Interval]]) -> None:
        """Writes what SQLMesh is about to evaluate."""
        if batches:
            self._ledger.planned(self._number, batches)

    def began(self, model: str) -> None:
        """Notes that a model is being evaluated."""
        self.deaths.began(model)

    def left(self, model: str) -> None:
        """Notes that it no longer is."""
        self.deaths.left(model)

    def overran(self, model: str, error: str) -> None:
        """Ends SQLMesh's process for a model that goes on although it was cancelled."""
        self.deaths.overran(model, error)

    def died(self, death: WorkerDied) -> Set[str]:
        """Takes the end of SQLMesh's process, as :meth:`.Deaths.bury`."""
        return self.deaths.bury(death, self._left(), ending=self.cancelling.is_set())

    def record(self, outcome: Outcome) -> None:
        """Writes an outcome, and reports it where no step of the run does."""
        outcome = self._index.named(self._withhold(outcome))
        try:
            step = None
            if outcome.model in self._in_run:
                step = self._index.op_names.get(outcome.model)
            else:
                report_without_step(self._instance, self._index, outcome, self._run.run_id)
            self._ledger.record(self._number, outcome, step)
        except Exception as error:  # noqa: BLE001 - ends the execution, see ended
            # Not to SQLMesh, which would take it for the model's own failure.
            if self._broken is None:
                self._broken = LedgerBroken(outcome.name, f"{type(error).__name__}: {error}")
                self._broken.__cause__ = error
            self.cancelling.set()
            return
        if not outcome.is_alone:
            self._metrics.finished(outcome)
        if self._observer is not None:
            self._observer.finished(outcome)
        if self._pace is not None and step is not None and outcome.succeeded:
            self._pace.recorded()

    def say(self, message: str) -> None:
        """Writes a line to the run's log."""
        self._ledger.say(message, self._number)

    def ended(self, error: BaseException | None, release: Callable[[], None]) -> None:
        """Ends the round in the ledger, where it is this process's to end.

        Args:
            error: Why the execution gave up, where it did.
            release: Called before that: what this process knows is then all there is.
        """
        error = self._broken or error
        # Without the lease it has nothing to end, unless it gave up for good.
        mine = self.admitted or (error is not None and not self.given_up())
        mine = mine and not (self._left() and self.handed_over())
        observer = self._observer
        if mine and observer is not None:
            self.safely(lambda: observer.ended(error))
        release()
        if mine:
            self._ledger.ended(self._number, None if error is None else str(error) or repr(error))
        self.safely(lambda: self._metrics.ended(error))

    def look_at_run(self) -> None:
        """Cancels where the run has ended, or is to end."""
        if goes_on(self._instance, self._run.run_id):
            return
        self.cancelling.set()
        status = self._status()
        if status in _TERMINATED:
            self._stop.ending()
        if status is dg.DagsterRunStatus.CANCELED:
            self._stop.marked(is_marked_as_cancelled(self._instance, self._run.run_id))

    def safely(self, look: Callable[[], None]) -> None:
        """Does what may fail without harm, since it is done again or may be left undone."""
        try:
            look()
        except Exception:  # noqa: BLE001 - logged
            # The storage may be back at the next look; what it must not lose fails loudly.
            _log.warning("Cannot look after run %s", self._run.run_id, exc_info=True)

    def _status(self) -> dg.DagsterRunStatus | None:
        """The run's status now; ``None`` if the run is gone."""
        run = self._instance.get_run_by_id(self._run.run_id)
        return run.status if run is not None else None

    def _left(self) -> Set[str]:
        """What the round deals with and has no outcome yet."""
        return set(self._selected) - self._ledger.history.round(self._number).outcomes.keys()

    def _left_out(self) -> Set[str]:
        outcomes = self._ledger.outcomes()
        succeeded = {model for model, outcome in outcomes.items() if outcome.succeeded}
        return self._in_run - set(self._selected) - succeeded

    def _slow_start(self) -> str:
        waited = time.monotonic() - self._began
        if self._step is None or waited < _LONG_START_SECONDS:
            return ""
        return f" (its start took {waited:.1f} s, which the time of {self._step} includes)"

    def _repeats_end(self) -> bool:
        """Whether the run executes one again that failed after its last model."""
        parent = self._run.parent_run_id
        if parent is None or self._number > 1:
            return False
        return read_history(self._instance, parent, self._index.scope).failed_end is not None
