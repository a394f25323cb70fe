"""The exclusive right to open a project's DuckDB databases.

DuckDB lets one process open a file. A file lock beside it makes runs, ticks and the CLI wait for
each other in place of failing; the operating system releases it when its holder dies.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ..config.errors import DatabaseLocked

_POLL_SECONDS = 0.1


@contextmanager
def lease(
    files: Sequence[Path],
    *,
    timeout_seconds: float,
    waiting: Callable[[str], None] = lambda message: None,
    given_up: Callable[[], bool] = lambda: False,
) -> Iterator[None]:
    """Holds the locks of some DuckDB files, taken in sorted order.

    Args:
        files: The databases; none for other engines, which needs no lock.
        timeout_seconds: How long to wait in all.
        waiting: Told once for every lock that is not free.
        given_up: Asked while waiting; true ends the wait.

    Raises:
        DatabaseLocked: The time is over, or the wait was given up.
    """
    deadline = time.monotonic() + timeout_seconds
    with ExitStack() as held:
        for file in sorted(files):
            lock = FileLock(f"{file}.lock")
            file.parent.mkdir(parents=True, exist_ok=True)
            told = False
            while True:
                try:
                    held.enter_context(lock.acquire(timeout=0))
                    break
                except Timeout:
                    if time.monotonic() >= deadline or given_up():
                        raise DatabaseLocked(
                            str(file), f"a SQLMesh execution or a tick holds {lock.lock_file}"
                        ) from None
                if not told:
                    waiting(f"Waiting for {file}: another SQLMesh execution or a tick has it open")
                    told = True
                time.sleep(_POLL_SECONDS)
        yield
