"""What SQLMesh and the database drivers raise, as this package's errors.

That may hold a password, the value of an environment variable or SQL, also in its traceback, and
Dagster stores an error with all that it comes from. So it is the cause of ours only if none of it
is to be withheld.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ...config.errors import (
    AutomationError,
    DatabaseLocked,
    ProjectFileInvalid,
    ProjectInvalid,
    SQLMeshFailed,
    StateUnavailable,
)
from ...config.settings import AutomationSettings
from ..lease.waiting import lock_refusal
from .cache_failures import cache_failure
from .outages import is_outage
from .withholding import Withholding


@contextmanager
def naming_refusals(settings: AutomationSettings, kind: type[ProjectInvalid]) -> Iterator[None]:
    """Names what is wrong with a project while SQLMesh opens it.

    The project's own Python code runs then, which may raise anything.

    Args:
        settings: The project.
        kind: The error for what SQLMesh refuses.

    Raises:
        ProjectInvalid: SQLMesh refuses the configuration or a file; of the given kind.
        CacheNotWritable: SQLMesh has no place for its cache.
        Unavailable: A database is locked or out of reach.
    """
    try:
        yield
    except AutomationError:
        raise
    except Exception as error:
        if locked := _locked(error):
            raise locked from error
        withholding = Withholding(settings)
        cause = withholding.cause(error)
        if named := cache_failure(error) or _unavailable(settings, withholding, error):
            raise named from cause
        if kind is not ProjectFileInvalid:
            cause = None  # a configuration is where passwords are
        reason = _reason(withholding, error, is_shown=cause is not None)
        command = settings.sqlmesh_command("info")
        raise kind(settings.projects, reason, command, settings.place("source")) from cause


@contextmanager
def naming_failures(settings: AutomationSettings) -> Iterator[None]:
    """Names what goes wrong while SQLMesh works with a project.

    Errors that it does not know pass through unchanged, unless they hold what is to be withheld.

    Raises:
        CacheNotWritable: SQLMesh has no place for its cache.
        Unavailable: A database is locked or out of reach.
        SQLMeshFailed: SQLMesh gave up.
    """
    from sqlmesh.utils.errors import SQLMeshError

    try:
        yield
    except AutomationError:
        raise
    except Exception as error:
        if locked := _locked(error):
            raise locked from error
        withholding = Withholding(settings)
        cause = withholding.cause(error)
        named: AutomationError | None = cache_failure(error)
        named = named or _unavailable(settings, withholding, error)
        if named is None and (cause is None or isinstance(error, SQLMeshError)):
            reason = _reason(withholding, error, is_shown=cause is not None)
            named = SQLMeshFailed(settings.projects, reason)
        if named is None:
            raise
        raise named from cause


def _reason(withholding: Withholding, error: Exception, *, is_shown: bool) -> str:
    """Returns what an error says, and what its causes say unless the error itself is shown."""
    from sqlmesh.utils.errors import SQLMeshError

    reason = str(error).strip() if is_shown else withholding.story(error)
    return reason if isinstance(error, SQLMeshError) else f"{type(error).__name__}: {reason}"


def _locked(error: Exception) -> DatabaseLocked | None:
    """Returns the error for a DuckDB file that another process has open, if that is it."""
    for link in _origins(error):
        kinds = {kind.__name__ for kind in type(link).__mro__}
        if "IOException" in kinds and (refusal := lock_refusal(str(link))) is not None:
            return DatabaseLocked(refusal.database, refusal.reason)
    return None


def _unavailable(
    settings: AutomationSettings, withholding: Withholding, error: Exception
) -> StateUnavailable | None:
    """Returns the error for a database that is out of reach, if that is what happened."""
    for link in _origins(error):
        # Every driver names the first two after PEP 249.
        if {"OperationalError", "InterfaceError", "IOException"} & {
            kind.__name__ for kind in type(link).__mro__
        }:
            # SQLMesh's own message, where it has one, names the statement too.
            reason = str(error) if str(link) in str(error) else str(link)
            return StateUnavailable(settings.projects, withholding.text(reason.strip()))
    # The drivers of warehouses in the cloud raise classes of their own.
    if is_outage(error):
        return StateUnavailable(settings.projects, withholding.text(str(error).strip()))
    return None


def _origins(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
