"""The roots of this package's errors; :mod:`.errors` draws the whole family."""

from __future__ import annotations

from .redaction import redacted


class AutomationError(Exception):
    """Root of all errors that this package raises on purpose.

    Its message may quote a database's URL or a setting, and Dagster stores and shows it.
    """

    def __init__(self, message: str) -> None:
        super().__init__(redacted(message))


class ConfigurationError(AutomationError):
    """Something a person has to change before it can work."""


class Unavailable(AutomationError):
    """Something that may work a moment later."""


class ExecutionError(AutomationError):
    """A run could not do its work."""
