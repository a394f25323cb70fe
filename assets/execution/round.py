"""One round of a run, executed by a thread of this process."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from ...config.clock import check_reached
from ...config.errors import WorkerDied
from ..dagster_internals import pop_captured_interrupt
from ..evaluation.contract import AuditsAlone, ExecutionRequest, Task
from ..ledger.outcome import audited_model
from ..ledger.run_tags import EXECUTION_TIME_TAG, execution_time
from .run_side import RoundSide, RunParts
from .selection import Selection

_LOOK_SECONDS = 2.0
"""How often it looks whether the run goes on."""

_JOIN_SECONDS = 0.5
"""How often it looks for interrupts while it waits for the end."""

_PROGRESS_SECONDS = 20.0
"""A longer silence is broken by a line of progress, which also shows that this process lives."""


class RoundThread:
    """Waits for the lease, then executes what the round has left to do.

    Args:
        number: The round's number in the run, from 1.
        selected: ``fqn`` of the models and standalone audits that the round deals with.
        of_run: All that the run selects.
        parts: What every round of the run works with.
    """

    def __init__(
        self, number: int, selected: Sequence[str], of_run: Selection, parts: RunParts
    ) -> None:
        self._number, self._selected, self._parts = number, selected, parts
        self._alone = of_run.alone
        self._side = RoundSide(number, selected, of_run.models, parts)
        self._done = threading.Event()
        name = f"sqlmesh-{parts.run.run_id[:8]}"
        self._thread = threading.Thread(target=self._execute, name=name)
        self._pulse = threading.Thread(target=self._beat, name=f"{name}-pulse", daemon=True)
        self._thread.start()
        self._pulse.start()

    @property
    def executing(self) -> bool:
        """Whether this process has the lease, so that nobody else records anything."""
        return self._side.admitted and not self._done.is_set()

    @property
    def alive(self) -> bool:
        """Whether it may still record something."""
        return self._thread.is_alive()

    def cancel(self) -> None:
        """Has SQLMesh stop before the next model."""
        self._side.cancelling.set()

    def interrupt(self) -> None:
        """Has SQLMesh stop before the next model; at once where it has been told so before."""
        self._side.interrupted()

    def join(self) -> None:
        """Waits for the end, which an interrupt only hastens."""
        interrupt = None
        while self._thread.is_alive():
            try:
                self._thread.join(_JOIN_SECONDS)
                # Dagster raises none while it closes resources; it only notes that there was one.
                if pop_captured_interrupt():
                    self.interrupt()
            except BaseException as error:  # noqa: BLE001 - raised at the end
                interrupt = error
                self.interrupt()
        self._pulse.join()
        if interrupt is not None:
            raise interrupt

    def _execute(self) -> None:
        error: BaseException | None = None
        try:
            self._evaluate()
        except BaseException as caught:  # noqa: BLE001 - handed to every waiting step
            error = caught
        finally:
            self._side.ended(error, self._done.set)

    def _evaluate(self) -> None:
        """Has SQLMesh evaluate what is left, again where its process dies of one of the models."""
        request = self._request()
        while True:
            try:
                self._parts.place.call(Task.EXECUTE, self._parts.settings, request, side=self._side)
            except WorkerDied as death:
                suspects = self._side.died(death)
                if self._side.killed():
                    return
                request = replace(request, one_at_a_time=len(suspects) > 1)
            else:
                return

    def _request(self) -> ExecutionRequest:
        run, index = self._parts.run, self._parts.index
        at = execution_time(run.tags, run.run_id)
        if at is not None:
            check_reached(at, f"The run tag {EXECUTION_TIME_TAG}")
        return ExecutionRequest(
            run_id=run.run_id,
            selected={
                model: index.names[model] for model in self._selected if model not in self._alone
            },
            ignoring=index.ignoring,
            at=at or datetime.now(UTC),
            limits=index.limits,
            alone={
                name: AuditsAlone(
                    index.names[audited_model(name)], audited_model(name), self._alone[name]
                )
                for name in self._selected
                if name in self._alone
            },
        )

    def _beat(self) -> None:
        while not self._done.wait(_LOOK_SECONDS):
            self._side.safely(self._side.look_at_run)
            self._side.safely(self._side.deaths.look)
            self._side.safely(self._say_progress)

    def _say_progress(self) -> None:
        ledger = self._parts.ledger
        if ledger.silent_seconds() > _PROGRESS_SECONDS:
            done = len(ledger.history.round(self._number).outcomes)
            state = "goes on" if self._side.admitted else "waits for its turn"
            ledger.say(f"SQLMesh {state}: {done} models done", self._number)
