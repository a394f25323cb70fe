"""What becomes of the models that SQLMesh's process was evaluating when it ended, or had to."""

from __future__ import annotations

import time
from collections.abc import Callable, Set

from ...config.errors import WorkerDied
from ..definitions.specs import AssetIndex
from ..ledger.outcome import IN_MIDDLE, Outcome, OutcomeStatus
from ..worker.places import Place
from .hard_stop import HardStop

_MOST_DEATHS = 3
"""So many of SQLMesh's processes may die in one round, before the next tick's run goes on."""

_PATIENCE_SECONDS = 30.0
"""How long after its time a batch is left to SQLMesh's side, which cancels its statements and then
asks for its end. Native code that holds the interpreter keeps it from asking."""


class Deaths:
    """The batches in flight, as Dagster's side knows them.

    Args:
        index: Names and limits of the models.
        place: Where SQLMesh executes.
        stop: Whether the run is stopped at once.
        record: Takes an outcome that is final.
        say: Writes a line to the run's log.
    """

    def __init__(
        self,
        index: AssetIndex,
        place: Place,
        stop: HardStop,
        record: Callable[[Outcome], None],
        say: Callable[[str], None],
    ) -> None:
        self._index, self._place, self._stop = index, place, stop
        self._record, self._say = record, say
        self._batches: list[tuple[str, float]] = []
        self._overran: dict[str, str] = {}
        self._stopped_at: float | None = None
        self._count = 0

    def began(self, model: str) -> None:
        """Takes a model of which a batch is being evaluated from here on."""
        self._batches.append((model, time.monotonic()))

    def left(self, model: str) -> None:
        """Takes a model of which a batch, the oldest, is no longer being evaluated."""
        self._batches.remove(next(batch for batch in self._batches if batch[0] == model))

    def overran(self, model: str, error: str) -> None:
        """Ends SQLMesh's process for a model that goes on although it was cancelled.

        Args:
            model: Its ``fqn``.
            error: Why it was cancelled.
        """
        if model in self._overran:
            return
        self._overran[model] = error
        name = self._index.names[model]
        if self._place.kill():
            self._say(f"{name} goes on although {error}: SQLMesh's process is ended")
        else:
            self._say(
                f"{name} goes on although {error}: it waits for something else than a statement, "
                "or its engine cancels none; and a thread cannot be ended (ISOLATION=process can)"
            )

    def look(self) -> None:
        """Ends SQLMesh's process where that should long have asked for it."""
        now = time.monotonic()
        if self._stop.reached and self._stopped_at is None:
            self._stopped_at = now
        for model, began in tuple(self._batches):
            limit = self._index.limits.get(model)
            if limit is not None and now - began > limit.seconds + _PATIENCE_SECONDS:
                self.overran(model, limit.error)
            elif self._stopped_at is not None and now - self._stopped_at > _PATIENCE_SECONDS:
                self.overran(model, "the run was stopped")

    def bury(self, death: WorkerDied, left: Set[str], *, ending: bool) -> Set[str]:
        """Takes the end of SQLMesh's process in the middle of its work.

        A model that took too long, or was evaluated alone, has failed with it. Of several nobody
        knows which one it was, and none is blamed. Where the run was stopped at once, all that is
        left is cancelled.

        Args:
            death: How it ended.
            left: ``fqn`` of the models that have no outcome.
            ending: Whether the run is to end, so that nothing goes on.

        Returns:
            Names of the models that may have been the reason; empty where that is known.

        Raises:
            WorkerDied: It was none of the models, it has happened too often in this round, or the
                run is to end: nothing goes on.
        """
        models = {model for model, _ in self._batches}
        names = {self._index.names[model] for model in models}
        overran, self._batches, self._overran = self._overran, [], {}
        if self._stop.reached:
            self._cancel(left | models, in_flight=models)
            return frozenset()
        blamed = {model: overran[model] for model in models & overran.keys()}
        if not blamed:
            self._count += 1
            blamed = {model: str(death.during(names)) for model in models if len(models) == 1}
        for model, error in blamed.items():
            name = self._index.names[model]
            self._record(Outcome(model, name, OutcomeStatus.FAILED, error=error))
        if not models or self._count == _MOST_DEATHS or ending:
            raise death.during(names)
        self._say(f"{death.during(names)} Another process does the rest")
        return frozenset() if blamed else names

    def _cancel(self, models: Set[str], *, in_flight: Set[str]) -> None:
        for model in models:
            reason = IN_MIDDLE if model in in_flight else ""
            name = self._index.names[model]
            self._record(Outcome(model, name, OutcomeStatus.CANCELLED, reason=reason))
