"""What goes over the connection between the run's process and SQLMesh's.

The two are one program and its child, so that objects are pickled. Nothing else has the connection.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...config.errors import AutomationError, WorkerFailed
from ..evaluation.contract import Task
from ..ledger.outcome import error_message


@dataclass(frozen=True)
class Order:
    """Has the child execute a task; the descriptors of the output follow it.

    Attributes:
        task: What to execute.
        arguments: Its arguments, but for the run's side, which is on the other end.
        path: Where the run's process imports from.
        variables: The environment variables of the run's process.
        levels: The levels of the loggers there, by name; the root's under the empty name.
    """

    task: Task
    arguments: tuple[Any, ...]
    path: Sequence[str]
    variables: Mapping[str, str]
    levels: Mapping[str, int]


@dataclass(frozen=True)
class Question:
    """Asks the run's side for something; an :class:`Answer` follows.

    Attributes:
        name: A method of the run's side.
        arguments: Its arguments.
    """

    name: str
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class Answer:
    """What a method has returned, or what it raised; also the end of a task.

    Attributes:
        value: What was returned.
        error: What was raised, if anything.
    """

    value: Any = None
    error: AutomationError | None = None


@dataclass(frozen=True)
class Logged:
    """A record of a logger in the child, for the handlers of the run's process.

    Attributes:
        record: The record, its message complete.
    """

    record: logging.LogRecord


def crossing(error: BaseException) -> AutomationError:
    """An error as it can cross: this package's own as it is, any other by its name and message.

    The other process may not be able to import the class of another one.

    Returns:
        The error, with the place where it was raised as a note.
    """
    crossed = error if isinstance(error, AutomationError) else WorkerFailed(error_message(error))
    crossed.add_note("".join(traceback.format_exception(error)).rstrip())
    return crossed


def levels() -> dict[str, int]:
    """The levels that the loggers of this process have been set to, by name."""
    loggers = logging.Logger.manager.loggerDict
    named = {
        name: logger.level
        for name, logger in loggers.items()
        if isinstance(logger, logging.Logger) and logger.level
    }
    return {"": logging.getLogger().level, **named}
