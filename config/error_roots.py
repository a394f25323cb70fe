"""The roots of this package's errors; :mod:`.errors` draws the whole family."""

from __future__ import annotations


class AutomationError(Exception):
    """Root of all errors that this package raises on purpose."""


class ConfigurationError(AutomationError):
    """Something a person has to change before it can work."""


class Unavailable(AutomationError):
    """Something that may work a moment later."""


class ExecutionError(AutomationError):
    """A run could not do its work."""
