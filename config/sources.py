"""Names the place where the value of a setting stands, for messages to people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .references import Keys, Reference

PREFIX = "SQLMESH_AUTOMATION_"
_OBJECTS = ("cron_map", "models")


@dataclass(frozen=True)
class Sources:
    """The sources of some settings, each with the values that it holds.

    Two of them are equal whatever they hold: settings are equal if their values are.

    Attributes:
        prefix: The prefix of the environment variables.
        arguments: The values that were arguments.
        written_in: The file that the arguments were read from, such as a component's
            ``defs.yaml``; ``None`` if Python code passed them.
        references: The references among the arguments, by their path.
        variables: The values of environment variables.
        file: The YAML file that ``CONFIG`` names.
        content: The values in that file.
    """

    prefix: str = field(default=PREFIX, compare=False)
    arguments: Mapping[str, Any] = field(default_factory=dict, compare=False)
    written_in: str | None = field(default=None, compare=False)
    references: Mapping[Keys, Reference] = field(default_factory=dict, compare=False)
    variables: Mapping[str, Any] = field(default_factory=dict, compare=False)
    file: Path | None = field(default=None, compare=False)
    content: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def place(self, *path: str | int) -> str:
        """Returns where a value stands, or where a person would set it if it is a default.

        Args:
            path: The setting's name, then the keys within it.

        Returns:
            A text such as ``SQLMESH_AUTOMATION_TIMEZONE`` or ``timezone in /srv/defs.yaml``.
        """
        if holds(self.arguments, path):
            return self._argument(path)
        if holds(self.variables, path):
            return variable(*path, prefix=self.prefix)
        if holds(self.content, path):
            return f"{_key(path)} in {self.file}"
        return self._argument(path)

    def unset(self, *path: str | int) -> str:
        """Returns one line for a reference whose variable is not set."""
        return f"{self.place(*path)} {self.references[path].problem}"

    def _argument(self, path: Keys) -> str:
        references = [
            reference.written
            for start, reference in self.references.items()
            if path[: len(start)] == start
        ]
        if not references and self.written_in is None:
            return variable(*path, prefix=self.prefix)
        key = "=".join([_key(path), *references])
        return key if self.written_in is None else f"{key} in {self.written_in}"


def holds(values: Any, path: Keys) -> bool:
    """Returns whether values, nested as settings are, have something at a path."""
    for part in path:
        if not isinstance(values, Mapping):
            return True
        if part not in values:
            return False
        values = values[part]
    return True


def variable(*path: str | int, prefix: str = PREFIX) -> str:
    """Returns the environment variable of a setting, and the keys within its value."""
    if path[0] in _OBJECTS:
        return f"{prefix}{str(path[0]).upper()}{_within(path[1:])}"
    return prefix + "__".join(str(part) for part in path).upper()


def _key(path: Keys) -> str:
    if path[0] in _OBJECTS:
        return f"{path[0]}{_within(path[1:])}"
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return key.removeprefix(".")


def _within(path: Keys) -> str:
    """Returns keys within a map of patterns or crons, such as ``['sales.*'].retry``."""
    return "".join(f".{part}" if place else f"[{part!r}]" for place, part in enumerate(path))
