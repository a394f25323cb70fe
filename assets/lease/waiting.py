"""The exclusive right to evaluate models, which ends with its holder's process.

DuckDB lets one process open a file, so a file lock beside it covers the whole database. Where
SQLMesh's state is on a server, :mod:`.server_lease` covers single models.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import FileLock, Timeout

from ...config.errors import DatabaseLocked
from ...config.settings import PREFIX

_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Wait:
    """How to wait for a lease.

    Attributes:
        timeout_seconds: How long in all.
        say: Called once with a line about everybody who is waited for.
        given_up: Called while waiting. Returns true to end the wait.
        prefix: That of the settings' environment variables, for messages that name one.
    """

    timeout_seconds: float
    say: Callable[[str], None] = lambda message: None
    given_up: Callable[[], bool] = lambda: False
    prefix: str = PREFIX

    def until_free(self, attempt: Callable[[], str | None], poll: float = _POLL_SECONDS) -> str:
        """Tries until it succeeds, the time is over, or the wait is given up.

        Args:
            attempt: Tries once; ``None`` for success, else who is in the way.
            poll: Seconds between two attempts.

        Returns:
            Who is still in the way; empty after success.
        """
        deadline = time.monotonic() + self.timeout_seconds
        announced: set[str] = set()
        while (blocked := attempt()) is not None:
            if time.monotonic() >= deadline or self.given_up():
                return blocked
            if blocked not in announced:
                self.say(f"Waiting: {blocked}")
                announced.add(blocked)
            # Runs that start together would refuse each other in step.
            time.sleep(poll * random.uniform(0.5, 1.5))
        return ""


@contextmanager
def database_lease(files: Sequence[Path], wait: Wait, holder: str) -> Iterator[None]:
    """Holds the locks of some DuckDB files, taken in sorted order.

    Args:
        files: The databases; none for other engines, which need no lock.
        wait: How to wait.
        holder: Who holds them now, told to those that wait, such as ``run 4f1c…``.

    Raises:
        DatabaseLocked: The time is over, or the wait was given up.
    """
    deadline = time.monotonic() + wait.timeout_seconds
    with ExitStack() as held:
        for file in sorted(files):
            file.parent.mkdir(parents=True, exist_ok=True)
            left = max(0.0, deadline - time.monotonic())
            lock = FileLock(f"{file}.lock")
            name = Path(f"{file}.lock.holder")
            blocked = replace(wait, timeout_seconds=left).until_free(_attempt(lock, name))
            if blocked:
                raise DatabaseLocked(str(file), blocked)
            held.callback(lock.release)
            name.write_text(holder)
            held.callback(name.unlink, missing_ok=True)
        yield


def _attempt(lock: FileLock, name: Path) -> Callable[[], str | None]:
    def attempt() -> str | None:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            # Its holder may be between taking the lock and writing its name, or writing it.
            holder = name.read_text() if name.exists() else ""
            return f"{holder or 'a SQLMesh execution or a tick'} holds {lock.lock_file}"
        return None

    return attempt
