"""How often the kernel has killed a process of this container for want of memory."""

from __future__ import annotations

from pathlib import Path

_EVENTS = Path("/sys/fs/cgroup/memory.events")


def kills_for_memory() -> int:
    """The kernel's count of such kills, of the container as the container sees it (cgroup v2).

    Returns:
        The count; 0 where there is none.
    """
    try:
        lines = _EVENTS.read_text().splitlines()
    except OSError:
        return 0
    counts = dict(line.split() for line in lines if line.count(" ") == 1)
    count = counts.get("oom_kill", "0")
    return int(count) if count.isdigit() else 0
