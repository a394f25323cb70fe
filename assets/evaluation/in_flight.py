"""The batches that SQLMesh is evaluating at this moment."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from ...config.rules import BatchLimit


@dataclass(eq=False, slots=True)
class Batch:
    """One batch of one model that a thread is evaluating, its audits included.

    Attributes:
        model: The model's ``fqn``, or a standalone audit's.
        name: The name that a person knows it by.
        thread: The ident of the thread that evaluates it.
        began: When it began, by :func:`time.monotonic`.
        exceeded: The limit that it has exceeded, so that it is cancelled.
        over: Set when there is nothing left to cancel.
    """

    model: str
    name: str
    thread: int = field(default_factory=threading.get_ident)
    began: float = field(default_factory=time.monotonic)
    exceeded: BatchLimit | None = None
    over: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def seconds(self) -> float:
        """How long it has been evaluated so far."""
        return time.monotonic() - self.began

    @property
    def error(self) -> str:
        """Why it is cancelled."""
        return "the run was stopped" if self.exceeded is None else self.exceeded.error

    def cancel(self, cancel: Callable[[int], None]) -> None:
        """Has something cancelled, and not what the thread does after this batch.

        Args:
            cancel: Cancels what a thread is doing, by its ident. Not called once it is over.
        """
        with self._lock:
            if not self.over.is_set():
                cancel(self.thread)

    def close(self) -> None:
        """Has nothing cancelled from here on."""
        with self._lock:
            self.over.set()


class InFlight:
    """The batches in flight of one execution. Thread-safe.

    Args:
        began: Called with the model's ``fqn`` in the thread that begins one of its batches,
            before SQLMesh does.
        left: Called likewise when the batch is over, however it ended.

    Attributes:
        stopped: Whether all of them are cancelled because the run is stopped at once.
    """

    def __init__(self, began: Callable[[str], None], left: Callable[[str], None]) -> None:
        self._began, self._left = began, left
        self._lock = threading.Lock()
        self._batches: list[Batch] = []
        self.stopped = False

    @property
    def batches(self) -> list[Batch]:
        """Those in flight now, the longest first."""
        with self._lock:
            return list(self._batches)

    @contextmanager
    def batch(self, model: str, name: str) -> Iterator[Batch]:
        """Has a batch of a model in flight, which the calling thread evaluates.

        Args:
            model: The model's ``fqn``.
            name: The name that a person knows it by.
        """
        batch = Batch(model, name)
        self._began(model)
        with self._lock:
            self._batches.append(batch)
        try:
            yield batch
        finally:
            batch.close()
            with self._lock:
                self._batches.remove(batch)
            self._left(model)

    def recording(self) -> None:
        """What the calling thread has evaluated is about to be recorded: too late to cancel it."""
        thread = threading.get_ident()
        for batch in self.batches:
            if batch.thread == thread:
                batch.close()
