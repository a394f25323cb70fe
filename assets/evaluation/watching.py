"""Watches how long batches take, and whether the run is to be stopped at once."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial

from ...config.rules import BatchLimit
from .cancelling import Statements
from .contract import RunSide
from .in_flight import Batch, InFlight

_LOOK_SECONDS = 1.0

_AGAIN_SECONDS = 1.0
"""How often a batch is cancelled that goes on: it may have been between two statements."""

_LONGEST_AGAIN_SECONDS = 30.0
"""How often at last, once that has not helped: each time takes a connection."""

OVERRUN_SECONDS = 10.0
"""How long after that a batch ends, if a statement is all that it waits for."""

_log = logging.getLogger(__name__)


class Watch:
    """Cancels what batches do in their databases; a context manager around an execution.

    A batch that takes longer than its model may is cancelled, and nothing else. Where the run is
    stopped at once, everything is.

    Args:
        in_flight: The batches.
        limits: How long a batch may take, by ``fqn`` of those that have a limit.
        statements: Cancels.
        run: Says whether to stop at once.
    """

    def __init__(
        self,
        in_flight: InFlight,
        limits: Mapping[str, BatchLimit],
        statements: Statements,
        run: RunSide,
    ) -> None:
        self._in_flight, self._limits, self._statements = in_flight, limits, statements
        self._run = run
        self._cancelled: set[Batch] = set()
        self._stopping: list[threading.Thread] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="sqlmesh-watch", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._over.set()
        for thread in (self._thread, *self._stopping):
            thread.join()

    def _watch(self) -> None:
        while not self._over.wait(_LOOK_SECONDS):
            try:
                self._look()
            except Exception:  # noqa: BLE001 - logged, and looked again
                _log.warning("Cannot look after the batches in flight", exc_info=True)

    def _look(self) -> None:
        if not self._in_flight.stopped and self._run.killed():
            self._in_flight.stopped = True
            names = sorted({batch.name for batch in self._in_flight.batches})
            self._run.say(f"The run is stopped at once: cancelling {', '.join(names) or 'it'}")
            self._apart(self._stop_others)
        for batch in self._in_flight.batches:
            if batch in self._cancelled or batch.over.is_set():
                continue
            limit = self._limits.get(batch.model)
            if limit is not None and batch.seconds > limit.seconds:
                batch.exceeded = limit
            elif not self._in_flight.stopped:
                continue
            self._cancelled.add(batch)
            self._apart(partial(self._stop, batch))

    def _apart(self, stop: Callable[[], None]) -> None:
        # A server that does not answer must not keep the others from being cancelled.
        thread = threading.Thread(target=stop, name="sqlmesh-cancel", daemon=True)
        self._stopping.append(thread)
        thread.start()

    def _stop(self, batch: Batch) -> None:
        """Cancels a batch until it is over, and tells once if that does not help."""
        until = time.monotonic() + OVERRUN_SECONDS
        pause, told = _AGAIN_SECONDS, False
        while not batch.over.is_set():
            self._attempt(partial(batch.cancel, self._statements.cancel))
            if not told and time.monotonic() > until and not batch.over.is_set():
                told = True
                self._attempt(partial(self._run.overran, batch.model, batch.error))
            batch.over.wait(pause)
            pause = min(2 * pause, _LONGEST_AGAIN_SECONDS) if told else pause

    def _stop_others(self) -> None:
        """Cancels what is done for no model in particular, such as ``before_all``."""
        while not self._over.is_set():
            threads = {batch.thread for batch in self._in_flight.batches}
            self._attempt(partial(self._statements.cancel_others, threads))
            self._over.wait(_AGAIN_SECONDS)

    def _attempt(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception:  # noqa: BLE001 - logged, and tried again
            _log.warning("Cannot cancel what SQLMesh does in a database", exc_info=True)
