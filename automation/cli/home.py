"""Opens the Dagster instance of ``DAGSTER_HOME`` and names what is wrong with it.

Its ``dagster.yaml`` holds passwords, so no message quotes a value of it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import dagster as dg
import yaml

from ...config.errors import AutomationError, DagsterHomeInvalid, DagsterUnavailable

_OUT_OF_REACH = {"DagsterPostgresException", "DagsterMySQLException", "OperationalError"}
"""What Dagster's storages raise; their packages are not ours to import, and need not be there."""

_URL = (
    "its storage cannot be set up ({kind}): look at its URL, which is such as "
    "postgresql+psycopg2://user:password@host:5432/database, with characters such as / @ : # of "
    "the password written as %2F %40 %3A %23."
)


@contextmanager
def dagster_instance() -> Iterator[dg.DagsterInstance]:
    """Yields the instance of ``DAGSTER_HOME``, or one in memory that ends with this process.

    Raises:
        DagsterHomeInvalid: Dagster refuses that folder or its ``dagster.yaml``.
        DagsterUnavailable: Its storage cannot be reached.
    """
    home = os.environ.get("DAGSTER_HOME")
    if not home:
        with dg.DagsterInstance.ephemeral() as instance:
            yield instance
        return
    try:
        configured = dg.DagsterInstance.get()
    except Exception as error:
        # Whatever it is: it comes from loading that folder.
        invalid = DagsterHomeInvalid(home, _reason(error), file=_has_file(home))
        raise _unavailable(home, error) or invalid from error
    with configured as instance:
        try:
            yield instance
        except AutomationError:
            raise
        except Exception as error:
            if (unavailable := _unavailable(home, error)) is None:
                raise
            raise unavailable from error


def _unavailable(home: str, error: Exception) -> DagsterUnavailable | None:
    """Returns the error for a storage that is out of reach, if that is what happened."""
    if type(error).__name__ not in _OUT_OF_REACH:
        return None
    reason = str(error.__cause__ or error).strip().partition("\n")[0]
    return DagsterUnavailable(home, reason)


def _reason(error: Exception) -> str:
    """Returns why Dagster cannot use the folder, without any value from ``dagster.yaml``."""
    if isinstance(error, dg.DagsterInvalidConfigError):
        return "; ".join(_without_value(problem) for problem in error.errors) or error.message
    if isinstance(error, yaml.MarkedYAMLError):
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        return f"its dagster.yaml is not YAML: {error.problem}{line}."
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if isinstance(error, dg.DagsterError) or "CheckError" in kinds:
        text = str(error).partition("\n")[0].partition("Description: ")
        return _before_value(text[2] or text[0].removeprefix("Failure condition: "))
    if isinstance(error, ImportError):
        return f"{error}. For psycopg2, write the URL as postgresql+psycopg2://…"
    if isinstance(error, OSError):
        return f"{error}."
    return _URL.format(kind=type(error).__name__)


def _without_value(problem: object) -> str:
    """Returns one of Dagster's problems with a configuration: where it is, and not the value."""
    message = str(getattr(problem, "message", problem))
    name = getattr(getattr(problem, "reason", None), "name", "")
    if name == "RUNTIME_TYPE_MISMATCH":
        return _before_value(message)
    if name == "FAILED_POST_PROCESSING":
        where = message.partition(" of original value ")[0]
        return f"{where} failed: an environment variable is not set or is of another type."
    return _before_value(message)


def _before_value(message: str) -> str:
    """Returns what a message says before it quotes a value."""
    for quoting in ('. Value "', ", instead got", " got ", ". Got ", ". Expected: "):
        message = message.partition(quoting)[0]
    return f"{message.rstrip('.')}."


def _has_file(home: str) -> bool:
    """Returns whether the folder has a ``dagster.yaml``, which is then at fault."""
    with suppress(OSError):
        return Path(home, "dagster.yaml").is_file()
    return False
