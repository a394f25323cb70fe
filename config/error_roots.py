"""The roots of this package's errors; :mod:`.errors` draws the whole family."""

from __future__ import annotations

from typing import Any

from .redaction import redacted


class AutomationError(Exception):
    """Root of all errors that this package raises on purpose.

    Its message may quote a database's URL or a setting, and Dagster stores and shows it.
    """

    def __init__(self, message: str) -> None:
        super().__init__(redacted(message))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles the message and what else it holds: each class is made from other arguments."""
        return _unpickled, (type(self), self.args, self.__dict__)


def _unpickled(
    kind: type[AutomationError], args: tuple[Any, ...], attributes: dict[str, Any]
) -> AutomationError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(attributes)
    return error


class ConfigurationError(AutomationError):
    """Something a person has to change before it can work."""


class Unavailable(AutomationError):
    """Something that may work a moment later."""


class ExecutionError(AutomationError):
    """A run could not do its work."""
