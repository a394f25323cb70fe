"""When a run that is to end is stopped at once, and not before the next model."""

from __future__ import annotations

import time

_ONE_INTERRUPT_SECONDS = 1.0
"""Interrupts so close together are one: a terminal's reaches a process and those that started it,
which hand it on."""


class HardStop:
    """Whether what is being evaluated is to be cancelled. Thread-safe.

    Args:
        grace: How long models may go on after the run was terminated, in seconds; ``None`` for as
            long as they take.
    """

    def __init__(self, grace: float | None) -> None:
        self._grace = grace
        self._ending_since: float | None = None
        self._interrupted_at: float | None = None
        self._at_once = False

    @property
    def reached(self) -> bool:
        """Whether to stop at once: told twice, marked as cancelled, or the time is over."""
        since, grace = self._ending_since, self._grace
        if since is None:
            return False
        return self._at_once or (grace is not None and time.monotonic() - since >= grace)

    def ending(self) -> None:
        """Takes that the run was terminated; the first time counts."""
        if self._ending_since is None:
            self._ending_since = time.monotonic()

    def interrupted(self) -> None:
        """Takes an interrupt of the process. The first one ends the run, a second one at once."""
        self.ending()
        now = time.monotonic()
        if self._interrupted_at is None:
            self._interrupted_at = now
        elif now - self._interrupted_at > _ONE_INTERRUPT_SECONDS:
            self._at_once = True

    def marked(self, by_others: bool) -> None:
        """Takes whether others than the run itself have marked it as cancelled."""
        self._at_once = self._at_once or by_others
