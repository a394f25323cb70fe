"""One round of a run, executed by a thread of this process."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import dagster as dg

from ...config.clock import check_reached
from ...config.errors import LedgerBroken
from ...config.settings import AutomationSettings
from ..dagster_internals import FINISHED_STATUSES
from ..definitions.specs import AssetIndex
from ..intervals import Interval
from ..ledger.history import RunEvent
from ..ledger.ledger import Ledger, has_step_workers, read_history
from ..ledger.outcome import Legacy, Outcome
from ..ledger.run_tags import EXECUTION_TIME_TAG, execution_time
from .metrics import ExecutionMetrics
from .report import report_without_step
from .withheld import OutcomeWithholding

_LOOK_SECONDS = 2.0
"""How often it looks whether the run goes on, and whether others have been heard of."""

FRESH_SECONDS = 0.25
"""Models that follow each other faster share a look at whether the run goes on."""

_PROGRESS_SECONDS = 20.0
"""A longer silence is broken by a line of progress, which also shows that this process lives."""

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
    """

    settings: AutomationSettings
    index: AssetIndex
    ledger: Ledger
    instance: dg.DagsterInstance
    run: dg.DagsterRun
    observer: Observer | None


class RoundThread:
    """Waits for the lease, then executes what the round has left to do.

    Args:
        number: The round's number in the run, from 1.
        selected: ``fqn`` of the models and standalone audits that the round deals with.
        in_run: ``fqn`` of all that the run selects.
        parts: What every round of the run works with.
    """

    def __init__(
        self,
        number: int,
        selected: Sequence[str],
        in_run: Set[str],
        parts: RunParts,
    ) -> None:
        self.number = number
        self._selected, self._in_run = selected, in_run
        self._settings, self._index, self._ledger = parts.settings, parts.index, parts.ledger
        self._instance, self._run, self._observer = parts.instance, parts.run, parts.observer
        self._cancelled = threading.Event()
        self._done = threading.Event()
        self._admitted = False
        self._broken: LedgerBroken | None = None
        self._looked = 0.0
        self._asked = 0.0
        self._metrics = ExecutionMetrics(parts.settings)
        self._withhold = OutcomeWithholding(parts.settings)
        name = f"sqlmesh-{parts.run.run_id[:8]}"
        self._thread = threading.Thread(target=self._execute, name=name)
        self._pulse = threading.Thread(target=self._beat, name=f"{name}-pulse", daemon=True)
        self._thread.start()
        self._pulse.start()

    @property
    def executing(self) -> bool:
        """Whether this process has the lease, so that nobody else records anything."""
        return self._admitted and not self._done.is_set()

    @property
    def alive(self) -> bool:
        """Whether it may still record something."""
        return self._thread.is_alive()

    def cancel(self) -> None:
        """Has SQLMesh stop before the next model."""
        self._cancelled.set()

    def join(self) -> None:
        """Waits for the end, which an interrupt only hastens."""
        try:
            self._thread.join()
        except BaseException:
            self.cancel()
            self._thread.join()
            raise
        finally:
            self._pulse.join()

    def _execute(self) -> None:
        error: BaseException | None = None
        try:
            from .evaluation import ExecutionRequest, execute
            from .recorder import Recorder

            at = execution_time(self._run.tags, self._run.run_id)
            request = ExecutionRequest(
                run_id=self._run.run_id,
                selected={model: self._index.names[model] for model in self._selected},
                ignoring=self._index.ignoring,
                at=(
                    check_reached(at, f"The run tag {EXECUTION_TIME_TAG}")
                    if at
                    else datetime.now(UTC)
                ),
                admit=self._admit,
                cancelled=self._is_cancelled,
                handed_over=self._handed_over,
                terminated=self._terminated,
                given_up=self._given_up,
                run_event=self._run_event,
                say=lambda message: self._ledger.say(message, self.number),
            )
            execute(self._settings, request, Recorder(self._record, self._plan))
        except BaseException as caught:  # noqa: BLE001 - handed to every waiting step
            error = caught
        finally:
            self._end(self._broken or error)

    def _end(self, error: BaseException | None) -> None:
        # Without the lease it has nothing to end, unless it gave up for good.
        mine = self._admitted or (error is not None and not self._given_up())
        mine = mine and not (self._left() and self._handed_over())
        observer = self._observer
        if mine and observer is not None:
            self._safely(lambda: observer.ended(error))
        self._done.set()
        if mine:
            self._ledger.ended(self.number, None if error is None else str(error) or repr(error))
        self._safely(lambda: self._metrics.ended(error))

    def _left(self) -> Set[str]:
        """What the round deals with and has no outcome yet."""
        return set(self._selected) - self._ledger.history.round(self.number).outcomes.keys()

    def _admit(self) -> Legacy | None:
        """Called once it has the lease: all that a process before it recorded is in the ledger.

        Returns:
            What such a process has left behind; ``None`` where the round has ended.
        """
        self._ledger.refresh()
        current = self._ledger.history.round(self.number)
        if current.ended:
            return None
        self._admitted = True
        self._metrics.admitted()
        left = len(self._left())
        is_first = self.number == 1 and not current.started
        self._ledger.started(self.number, left, self._left_out())
        if self._observer is not None:
            self._observer.started(left)
        return Legacy(
            outcomes=dict(current.outcomes),
            planned=dict(current.planned),
            is_first=is_first,
            owes_end=bool(current.planned) or self._repeats_end(),
        )

    def _run_event(self, gave_up: bool) -> RunEvent | None:
        """What has come about of the run, if this process has ended the round."""
        if self._left() and self._handed_over():
            return None
        gave_up = gave_up or self._broken is not None
        return self._ledger.history.run_event(self.number, self._in_run, gave_up=gave_up)

    def _repeats_end(self) -> bool:
        """Whether the run executes one again that failed after its last model."""
        parent = self._run.parent_run_id
        if parent is None or self.number > 1:
            return False
        return read_history(self._instance, parent, self._index.scope).failed_end is not None

    def _left_out(self) -> Set[str]:
        outcomes = self._ledger.outcomes()
        succeeded = {model for model, outcome in outcomes.items() if outcome.succeeded}
        return self._in_run - set(self._selected) - succeeded

    def _given_up(self) -> bool:
        """Whether to stop waiting for the lease: the run ends, or another process leads."""
        if time.monotonic() - self._looked > _LOOK_SECONDS:
            self._looked = time.monotonic()
            self._ledger.refresh()
        leads = self._ledger.leader(self.number) == self._ledger.process
        return self._cancelled.is_set() or not leads

    def _handed_over(self) -> bool:
        """Whether this process has to stop and the run goes on: another one takes over then."""
        if not self._cancelled.is_set() or self._broken is not None:
            return False
        run = self._instance.get_run_by_id(self._run.run_id)
        goes_on = run is not None and run.status is dg.DagsterRunStatus.STARTED
        return goes_on and has_step_workers(self._instance, self._run.run_id)

    def _terminated(self) -> bool:
        """Whether a person has terminated the run, by the mark that Dagster makes of it."""
        run = self._instance.get_run_by_id(self._run.run_id)
        marks = {dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED}
        return run is not None and run.status in marks

    def _plan(self, batches: Mapping[str, Sequence[Interval]]) -> None:
        if batches:
            self._ledger.planned(self.number, batches)

    def _record(self, outcome: Outcome) -> None:
        outcome = self._withhold(outcome)
        try:
            step = None
            if outcome.model in self._in_run:
                step = self._index.op_names.get(outcome.model)
            else:
                report_without_step(self._instance, self._index, outcome, self._run.run_id)
            self._ledger.record(self.number, outcome, step)
        except Exception as error:  # noqa: BLE001 - ends the execution, see _end
            # Not to SQLMesh, which would take it for the model's own failure.
            if self._broken is None:
                self._broken = LedgerBroken(outcome.name, f"{type(error).__name__}: {error}")
                self._broken.__cause__ = error
            self._cancelled.set()
            return
        self._metrics.finished(outcome)
        if self._observer is not None:
            self._observer.finished(outcome)

    def _is_cancelled(self) -> bool:
        """Asked before each model: nobody interrupts a process whose own step has ended."""
        now = time.monotonic()
        # Not the pulse's looks: what a person stops while a model runs, stops before the next one.
        if now - self._asked > FRESH_SECONDS and not self._cancelled.is_set():
            self._asked = now
            self._safely(self._look_at_run)
        return self._cancelled.is_set()

    def _beat(self) -> None:
        while not self._done.wait(_LOOK_SECONDS):
            self._safely(self._look_at_run)
            self._safely(self._say_progress)

    def _safely(self, look: Callable[[], None]) -> None:
        try:
            look()
        except Exception:  # noqa: BLE001 - logged
            # The storage may be back at the next look; what it must not lose fails loudly.
            _log.warning("Cannot look after run %s", self._run.run_id, exc_info=True)

    def _look_at_run(self) -> None:
        run = self._instance.get_run_by_id(self._run.run_id)
        over = {*FINISHED_STATUSES, dg.DagsterRunStatus.CANCELING}
        if run is None or run.status in over:
            self._cancelled.set()

    def _say_progress(self) -> None:
        if self._ledger.silent_seconds() > _PROGRESS_SECONDS:
            done = len(self._ledger.history.round(self.number).outcomes)
            state = "goes on" if self._admitted else "waits for its turn"
            self._ledger.say(f"SQLMesh {state}: {done} models done", self.number)
