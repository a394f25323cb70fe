"""Keeps SQLMesh from being far ahead of the steps that tell Dagster.

In one process Dagster does the steps one after the other, a few hundredths of a second each.
SQLMesh may be faster: a person would see models as materialized many seconds after they were.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_AHEAD = 8
"""How many outcomes SQLMesh may be ahead of the steps."""

_IDLE_SECONDS = 0.5
"""Steps that take no outcome for so long are at something else: SQLMesh does not wait for them."""


class Pace:
    """How far the outcomes of one run are ahead of the steps that report them. Thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._ahead = self._waiting = 0
        self._taken = time.monotonic()

    def recorded(self) -> None:
        """Takes note of one outcome more; returns once SQLMesh is not too far ahead."""
        with self._changed:
            self._ahead += 1
            while self._ahead > _AHEAD and not self._waiting:
                left = self._taken + _IDLE_SECONDS - time.monotonic()
                if left <= 0:
                    return
                self._changed.wait(left)

    def taken(self) -> None:
        """A step has taken its outcome."""
        with self._changed:
            self._ahead -= 1
            self._taken = time.monotonic()
            self._changed.notify_all()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """While a step waits for an outcome, SQLMesh does not wait for steps."""
        with self._changed:
            self._waiting += 1
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._waiting -= 1
