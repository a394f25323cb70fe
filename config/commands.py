"""SQLMesh's own commands, as messages tell people to type them."""

from __future__ import annotations

import shlex
from pathlib import Path


def sqlmesh_command(words: str, project: Path, gateway: str | None = None) -> str:
    """Returns a command of SQLMesh's for a project and, if one is set, its gateway."""
    options = ["sqlmesh", *(["--gateway", gateway] if gateway else []), "-p", str(project)]
    return f"{shlex.join(options)} {words}"
