"""The batches that SQLMesh is evaluating at this moment."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(eq=False, slots=True)
class Batch:
    """One batch of one model that a thread is evaluating, its audits included.

    Attributes:
        model: The model's ``fqn``, or a standalone audit's.
        name: The name that a person knows it by.
        thread: The ident of the thread that evaluates it.
        began: When it began, by :func:`time.monotonic`.
    """

    model: str
    name: str
    thread: int = field(default_factory=threading.get_ident)
    began: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """How long it has been evaluated so far."""
        return time.monotonic() - self.began


class InFlight:
    """The batches in flight of one execution. Thread-safe.

    Args:
        began: Called with the model's ``fqn`` in the thread that begins one of its batches,
            before SQLMesh does.
        left: Called likewise when the batch is over, however it ended.
    """

    def __init__(
        self,
        began: Callable[[str], None] | None = None,
        left: Callable[[str], None] | None = None,
    ) -> None:
        self._began, self._left = began, left
        self._lock = threading.Lock()
        self._batches: list[Batch] = []

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
        if self._began is not None:
            self._began(model)
        with self._lock:
            self._batches.append(batch)
        try:
            yield batch
        finally:
            with self._lock:
                self._batches.remove(batch)
            if self._left is not None:
                self._left(model)
