"""Paths among the settings: files, and the folders of SQLMesh projects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator
from pydantic_settings import NoDecode

_ACCEPTED = 'a path, or a list of paths, which a text holds as JSON: ["/srv/sales", "/srv/stock"]'


class Projects(tuple[Path, ...]):
    """The folders of projects with one state, as ``sqlmesh -p … -p …`` takes them.

    The first is the main one: its configuration names the state and the default gateway.
    """

    __slots__ = ()

    def __str__(self) -> str:
        return ", ".join(str(folder) for folder in self)

    @property
    def main(self) -> Path:
        """The folder that others are beside."""
        return self[0]


def usable_path(path: Path) -> Path:
    """Returns a path as an absolute one, which need not exist.

    A daemon, a code server and a run worker need not share a working directory.

    Raises:
        ValueError: The system cannot look at it, or it begins with ``~`` and an unknown user.
    """
    try:
        absolute = path.expanduser().absolute()
        absolute.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except RuntimeError:
        raise ValueError(f"a path whose home folder exists; {path.parts[0]} has none") from None
    except (OSError, ValueError) as error:  # ValueError for a character that no path can have
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"a path that this machine can look at ({reason})") from None
    return absolute


def paths_in(value: Any) -> Any:
    """Returns the list that a text holds as JSON; what is no such text, as it is."""
    if not _is_list(value):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value  # :func:`read_projects` refuses it


def read_projects(value: Any) -> Path | tuple[Path, ...]:
    """Returns a folder as an absolute path; a list of several as a tuple of them.

    Raises:
        ValueError: It is neither a path nor a list of paths.
    """
    read = paths_in(value)
    listed = read if isinstance(read, list | tuple) else [read]
    if not listed or not all(isinstance(path, str | Path) for path in listed) or _is_list(read):
        raise ValueError(_ACCEPTED)
    paths = tuple(dict.fromkeys(usable_path(Path(path)) for path in listed))
    return paths if len(paths) > 1 else paths[0]


def _is_list(value: Any) -> bool:
    """Whether a value is a text that begins like a list; ``./[x]`` is a folder of that name."""
    return isinstance(value, str) and value.lstrip().startswith("[")


ProjectPaths = Annotated[Path | tuple[Path, ...], NoDecode, BeforeValidator(read_projects)]
"""The folder of a SQLMesh project, or those of several; a variable holds a list as JSON."""
