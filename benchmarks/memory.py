"""What a process holds in memory, and apart from it the processes that it starts."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

_SECONDS = 0.2
"""How often it looks; what a process takes in its last moment is missed."""


@dataclass(frozen=True)
class Memory:
    """The most that was held, in MB.

    ``wait4`` tells another figure, which is never below what the parent held when it started the
    process.

    Attributes:
        own: Resident memory of the process itself.
        child: Resident memory of the largest process that it started.
        own_share: Of the process, with its share only of what it has in common with others (PSS).
        child_share: The same of the largest process that it started.
        tree: The shares of all of them together, at one moment.
    """

    own: int = 0
    child: int = 0
    own_share: int = 0
    child_share: int = 0
    tree: int = 0

    @property
    def largest(self) -> int:
        """Resident memory of the largest process."""
        return max(self.own, self.child)


class MemoryWatch:
    """Looks at a process and at those that it starts; a context manager.

    Args:
        pid: The process.
        shares: Whether to ask for shares too, which takes the kernel some milliseconds.

    Attributes:
        memory: What was seen; complete at the end.
    """

    def __init__(self, pid: int, shares: bool) -> None:
        self._pid, self._shares = pid, shares
        self._peaks: dict[int, int] = {}
        self._most: dict[int, int] = {}
        self._tree = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look_on)
        self.memory = Memory()

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()
        self.memory = Memory(
            self._peaks.get(self._pid, 0),
            max((kb for pid, kb in self._peaks.items() if pid != self._pid), default=0),
            self._most.get(self._pid, 0),
            max((kb for pid, kb in self._most.items() if pid != self._pid), default=0),
            self._tree,
        )

    def look(self) -> None:
        """Looks once."""
        tree = 0
        for pid in _family(self._pid):
            peak = _megabytes(pid, "status", "VmHWM:")
            self._peaks[pid] = max(peak, self._peaks.get(pid, 0))
            if self._shares:
                share = _megabytes(pid, "smaps_rollup", "Pss:")
                self._most[pid] = max(share, self._most.get(pid, 0))
                tree += share
        self._tree = max(tree, self._tree)

    def _look_on(self) -> None:
        while not self._over.wait(_SECONDS):
            self.look()


def _family(pid: int) -> Iterator[int]:
    """A process and all below it."""
    yield pid
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(child) for child in file.read_text().split()]
        except OSError:
            continue  # the thread has ended
        for child in children:
            # Until a new process has its own program, its memory is its parent's.
            if _program(child) != _program(pid):
                yield from _family(child)


def _program(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""  # the process has ended


def _megabytes(pid: int, file: str, name: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/{file}").read_text().splitlines()
    except OSError:
        return 0  # the process has ended
    return next((int(line.split()[1]) // 1024 for line in lines if line.startswith(name)), 0)
