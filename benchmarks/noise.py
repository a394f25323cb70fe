"""How quiet the machine is: the same work over and over, and who else wants to run."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

_ROUNDS = 25
_TURNS = 1_000_000

NOISY = 0.10
"""Repeats that differ by a larger part of their median say little."""


@dataclass(frozen=True)
class Noise:
    """The machine at one moment.

    Attributes:
        loop: How long an empty loop took, each time, in seconds.
        load: The load average of the last minute.
    """

    loop: Sequence[float]
    load: float


def noise() -> Noise:
    """Looks how quiet the machine is now."""
    return Noise([_fixed_work() for _ in range(_ROUNDS)], round(os.getloadavg()[0], 2))


def difference(seconds: Sequence[float]) -> float:
    """How far repeats are apart, as a part of their median."""
    return (max(seconds) - min(seconds)) / statistics.median(seconds)


def _fixed_work() -> float:
    started = time.perf_counter()
    for _ in range(_TURNS):
        pass
    return time.perf_counter() - started
