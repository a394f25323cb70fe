"""A finding is what the doctor says of one thing that it has examined."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import dagster as dg

from ..definitions import Location
from ..tick.plan import TickPlan

MOST_NAMES = 10
"""One finding names no more than so many models."""


@dataclass(frozen=True)
class Finding:
    """Holds the result of one check.

    Attributes:
        text: What the check tells.
        cure: What a person does about it; empty if nothing is to be done.
        exit_code: 0 if all is well or the cure is only advice, else one of the CLI's exit codes.
    """

    text: str
    cure: str = ""
    exit_code: int = 0

    @property
    def level(self) -> str:
        """Returns ``problem`` if something has to change, ``advice`` if it may, else ``ok``."""
        if self.exit_code:
            return "problem"
        return "advice" if self.cure else "ok"

    def to_json(self) -> dict[str, str]:
        """Returns what ``sqlmesh-automation doctor --json`` prints."""
        return {"level": self.level, "found": self.text, "do": self.cure}


@dataclass(frozen=True)
class Examined:
    """Holds what the checks look at.

    Attributes:
        location: The definitions.
        instance: The Dagster instance.
        plan: What a tick decides now.
        seconds: How long that decision took, in seconds; the start of SQLMesh is included.
    """

    location: Location
    instance: dg.DagsterInstance
    plan: TickPlan
    seconds: float


def ago(age: timedelta) -> str:
    """Returns how long ago something was, such as ``5 minutes ago``."""
    seconds = age.total_seconds()
    for size, unit in ((86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second")):
        if (count := int(seconds // size)) >= 1:
            return f"{count} {unit}{'s' * (count != 1)} ago"
    return "just now"
