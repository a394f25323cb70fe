"""SQLMesh's own commands, as messages tell people to type them."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path


def sqlmesh_command(
    words: str, projects: Iterable[Path], gateway: str | None = None, config: str | None = None
) -> str:
    """Returns a command of SQLMesh's for projects and, if they are set, gateway and config."""
    options = ["sqlmesh", *(["--gateway", gateway] if gateway else [])]
    options += ["--config", config] if config else []
    for project in projects:
        options += ["-p", str(project)]
    return f"{shlex.join(options)} {words}"
