"""What the programs that tick and load have in common; works with the peer's versions as well."""

import json
import time
from collections.abc import Callable
from typing import Any

ROUNDS = 5


def seconds_of(work: Callable[[], object], rounds: int = ROUNDS) -> list[float]:
    """How long it takes, some times over."""
    found = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        found.append(time.perf_counter() - started)
    return found


def say(**what: Any) -> None:
    """Prints what was measured, for the benchmark to read."""
    print(json.dumps(what))
