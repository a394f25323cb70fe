"""Names of processes, by which the processes of one run know each other."""

from __future__ import annotations

import os
import re
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


_NAME = re.compile(r"(?P<host>.+):(?P<pid>[1-9][0-9]{0,9}):[0-9a-f]{8}")


def is_process(name: str) -> bool:
    """Whether a text is a name as :func:`this_process` makes it."""
    return _NAME.fullmatch(name) is not None


def lives(process: str) -> bool:
    """Whether a process may still live; ``True`` for those of other hosts and for other texts.

    No proof: a process id can be given out again, and hosts can share a name.
    """
    name = _NAME.fullmatch(process)
    if name is None or name["host"] != socket.gethostname():
        return True
    try:
        os.kill(int(name["pid"]), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return not _zombie(int(name["pid"]))


def _zombie(pid: int) -> bool:
    """Whether a process has ended and its parent has not asked for it yet (Linux only)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] == "Z"
