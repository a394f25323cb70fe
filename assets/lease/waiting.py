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
from ...config.sources import variable

_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Wait:
    """How to wait for a lease.

    Attributes:
        timeout_seconds: How long in all.
        say: Called once with a line about everybody who is waited for.
        given_up: Called while waiting. Returns true to end the wait.
        place: Names where a setting stands, for messages.
    """

    timeout_seconds: float
    say: Callable[[str], None] = lambda message: None
    given_up: Callable[[], bool] = lambda: False
    place: Callable[[str], str] = variable

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


@dataclass(frozen=True, order=True)
class DuckDBFile:
    """A DuckDB database that is going to be opened.

    Attributes:
        path: Where it is, or is going to be.
        read_only: Whether it is opened for reading alone, which others may do at the same time.
    """

    path: Path
    read_only: bool = False


@contextmanager
def database_lease(files: Sequence[DuckDBFile], wait: Wait, holder: str) -> Iterator[None]:
    """Holds the locks of some DuckDB files, taken in sorted order, once all can be opened.

    A process that knows nothing of these locks (``sqlmesh`` or ``duckdb`` on a command line, a
    notebook) is waited for as well.

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
            left = max(0.0, deadline - time.monotonic())
            lease = _FileLease(file, holder)
            held.callback(lease.release)
            blocked = replace(wait, timeout_seconds=left).until_free(lease.attempt)
            if blocked:
                raise DatabaseLocked(str(file.path), blocked)
        yield


class _FileLease:
    """The lock beside one DuckDB file, with the name of its holder."""

    def __init__(self, file: DuckDBFile, holder: str) -> None:
        file.path.parent.mkdir(parents=True, exist_ok=True)
        self._file, self._holder = file, holder
        self._lock = FileLock(f"{file.path}.lock")
        self._name = Path(f"{file.path}.lock.holder")

    def attempt(self) -> str | None:
        """Takes the lock if it is free, then tries to open the file; tells who is in the way."""
        if not self._lock.is_locked:
            try:
                self._lock.acquire(timeout=0)
            except Timeout:
                # Its holder may be between taking the lock and writing its name, or writing it.
                holder = self._name.read_text() if self._name.exists() else ""
                return f"{holder or 'a SQLMesh execution or a tick'} holds {self._lock.lock_file}"
            self._name.write_text(self._holder)
        return _opened_elsewhere(self._file)

    def release(self) -> None:
        """Gives the lock back, if it was taken."""
        if self._lock.is_locked:
            self._name.unlink(missing_ok=True)
            self._lock.release()


def _opened_elsewhere(file: DuckDBFile) -> str | None:
    """Which process has a file open that may be opened by one process alone; DuckDB knows it."""
    if not file.path.exists():
        return None
    import duckdb

    try:
        duckdb.connect(str(file.path), read_only=file.read_only).close()
    except duckdb.Error as error:
        # Whatever else is wrong with it, SQLMesh says when it opens the file itself.
        refusal = lock_refusal(str(error))
        return f"{file.path.name}: {refusal.reason}" if refusal is not None else None
    return None


@dataclass(frozen=True)
class LockRefusal:
    """DuckDB does not open a file because another process has it open.

    Attributes:
        database: The file.
        reason: Which process, in DuckDB's words.
    """

    database: str
    reason: str


def lock_refusal(message: str) -> LockRefusal | None:
    """Reads DuckDB's message that a file is locked; it has no code for that."""
    if "Could not set lock" not in message:
        return None
    _, _, rest = message.partition('file "')
    file, _, reason = rest.partition('": ')
    return LockRefusal(file or "of this project", (reason or message).partition(" See also")[0])
