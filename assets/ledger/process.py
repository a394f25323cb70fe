"""Names of processes, by which the processes of one run know each other."""

from __future__ import annotations

import os
import socket
import uuid
from functools import cache
from pathlib import Path


@cache
def _name(pid: int) -> str:
    return f"{socket.gethostname()}:{pid}:{uuid.uuid4().hex[:8]}"


def this_process() -> str:
    """This process's name: ``host:pid:random``; another one in a child that was forked."""
    return _name(os.getpid())


def lives(process: str) -> bool:
    """Whether a process may still live; ``True`` for those of other hosts.

    No proof: a process id can be given out again, and hosts can share a name.
    """
    host, pid, _ = process.rsplit(":", 2)
    if host != socket.gethostname():
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not _zombie(int(pid))


def _zombie(pid: int) -> bool:
    """Whether a process has ended and its parent has not asked for it yet (Linux only)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] == "Z"
