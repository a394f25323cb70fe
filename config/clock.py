"""The clock on the wall: what may not be evaluated because it is still ahead."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from .errors import AheadOfClock

TOLERANCE = timedelta(seconds=10)
"""Clocks of two machines may differ by this much; a moment that is no further ahead has come."""


def check_reached(at: datetime, source: str) -> datetime:
    """Makes sure that a moment for which models are evaluated is not ahead of the clock.

    SQLMesh records whatever it is told to evaluate. An interval that has not ended would count as
    evaluated, and data that arrive later would never be.

    Args:
        at: The moment, aware.
        source: The option or run tag that names it.

    Returns:
        The moment.

    Raises:
        AheadOfClock: It is ahead by more than :data:`TOLERANCE`.
    """
    now = datetime.now(UTC)
    if at - now > TOLERANCE:
        raise AheadOfClock(source, at, now)
    return at
