"""The environment variables in templates of ``defs.yaml``, where an unset one is an error."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any


class TemplateVariables:
    """Takes the place of Dagster's ``env``, whose unset variables are ``None``, in templates.

    With Dagster's own, ``dev_{{ env.NAME }}`` would become ``dev_None``. An unset variable may
    still be tested (``{{ env.NAME or 'anna' }}``) and compared. Any other use of it is an error,
    which Dagster shows with the place in the file.

    Args:
        path: The path of the attribute in the file.
        template: The template; ``None`` if it is one of several within the attribute.
    """

    def __init__(self, path: Sequence[str | int], template: str | None = None) -> None:
        attribute = ".".join(str(part) for part in path if part != "attributes")
        self._written = attribute if template is None else f"{attribute}={template!r}"

    def __call__(self, name: str, default: Any = ...) -> Any:
        """Returns the value of a variable, or a default if it is not set."""
        value = os.environ.get(name, default)
        return self._unset(name) if value is ... else value

    def __getattr__(self, name: str) -> Any:
        """Returns the value of a variable, or an undefined value that names it."""
        # Jinja looks for hooks of its own on every object.
        if name.startswith(("jinja", "__")):
            raise AttributeError(name)
        value = os.environ.get(name)
        return self._unset(name) if value is None else value

    def _unset(self, name: str) -> Any:
        # Imported here, as Dagster does, because few locations have templates.
        from jinja2 import StrictUndefined

        class Unset(StrictUndefined):
            def __bool__(self) -> bool:  # type: ignore[override]
                return False

            def __eq__(self, other: object) -> bool:  # type: ignore[override]
                return self is other

            __hash__ = object.__hash__  # type: ignore[assignment]

        return Unset(
            f"attribute {self._written} cannot be used: the environment "
            f"variable {name} is not set. Set it, or give a default: env({name!r}, 'default')"
        )
