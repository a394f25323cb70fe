"""Reads Dagster's ``EnvVar`` among the values of settings, without importing Dagster.

Dagster reads an ``EnvVar`` only where its own configuration takes one. As the object is a ``str``,
or an ``int`` for ``EnvVar.int``, pydantic would take it for the text of its name, or for 0.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

Keys = tuple[str | int, ...]
"""The name of a setting, then the keys within it."""

_DEEPEST = 8
"""More levels than any setting has: what is deeper is no reference, and no setting either."""


@dataclass(frozen=True)
class Reference:
    """A value that is read from an environment variable.

    Attributes:
        variable: The name of the environment variable.
        written: The reference as people write it.
    """

    variable: str
    written: str

    @classmethod
    def of(cls, value: Any) -> Reference | None:
        """Returns the reference that a value is, or ``None`` if it is a plain value."""
        variable = getattr(value, "env_var_name", None)
        if not isinstance(variable, str):
            return None
        kind = "dg.EnvVar.int" if isinstance(value, int) else "dg.EnvVar"
        return cls(variable, f"{kind}({variable!r})")

    @property
    def problem(self) -> str:
        """What is said about the reference if the variable is not set."""
        return (
            f"cannot be used: the environment variable {self.variable} is not set. "
            "Set it for the code location and for the processes of its runs."
        )


@dataclass
class References:
    """The references among some values.

    Attributes:
        by_path: All references, by their path.
        unset: The paths of those whose variable is not set.
    """

    by_path: dict[Keys, Reference] = field(default_factory=dict)
    unset: list[Keys] = field(default_factory=list)

    def read(self, value: Any, path: Keys = ()) -> Any:
        """Returns a value, nested as it is, with what the variables hold in place of references."""
        reference = Reference.of(value)
        if reference is not None:
            self.by_path[path] = reference
            if reference.variable not in os.environ:
                self.unset.append(path)
            return os.environ.get(reference.variable)
        if len(path) == _DEEPEST:
            return value
        if isinstance(value, Mapping):
            items = {}
            for key, item in value.items():
                named = Reference.of(key)
                text = key if named is None else os.environ.get(named.variable, named.variable)
                inner = (*path, text)
                items[self.read(key, inner)] = self.read(item, inner)
            return items
        if isinstance(value, list | tuple):
            return [self.read(item, (*path, place)) for place, item in enumerate(value)]
        return value


class Part(BaseModel):
    """A part of the settings, which may hold references where Python code makes it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _read_references(cls, values: Any) -> Any:
        references = References()
        read = references.read(values)
        if references.unset:
            path = references.unset[0]
            reference = references.by_path[path]
            name = ".".join(str(part) for part in path)
            raise ValueError(f"{name}={reference.written} {reference.problem}")
        return read
