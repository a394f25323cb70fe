"""What the doctor says of one thing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True)
class Finding:
    """One thing that was checked.

    Attributes:
        text: What was found.
        cure: What to do about it; empty where nothing is to be done.
        exit_code: 0 where it is good or only advice, else as the CLI's exit codes.
    """

    text: str
    cure: str = ""
    exit_code: int = 0

    @property
    def level(self) -> str:
        """``problem`` where it has to be changed, ``advice`` where it may be, else ``ok``."""
        if self.exit_code:
            return "problem"
        return "advice" if self.cure else "ok"

    def to_json(self) -> dict[str, str]:
        """As ``sqlmesh-automation doctor --json`` prints it."""
        return {"level": self.level, "found": self.text, "do": self.cure}


def ago(age: timedelta) -> str:
    """How long something is past, such as ``5 minutes ago``."""
    seconds = age.total_seconds()
    for size, unit in ((86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second")):
        if (count := int(seconds // size)) >= 1:
            return f"{count} {unit}{'s' * (count != 1)} ago"
    return "just now"
