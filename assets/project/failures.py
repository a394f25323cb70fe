"""What SQLMesh and the database drivers raise, as this package's errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ...config.errors import (
    AutomationError,
    DatabaseLocked,
    ProjectInvalid,
    SQLMeshFailed,
    StateUnavailable,
    Unavailable,
)
from ...config.settings import AutomationSettings
from ..lease.waiting import lock_refusal
from .cache_failures import cache_failure
from .outages import is_outage


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
    from sqlmesh.utils.errors import SQLMeshError

    try:
        yield
    except AutomationError:
        raise
    except Exception as error:
        if cache := cache_failure(error):
            raise cache from error
        reason = str(error).strip()
        if not isinstance(error, SQLMeshError):
            reason = f"{type(error).__name__}: {reason}"
        if unavailable := _unavailable(settings, error):
            raise unavailable from error
        raise kind(settings.projects, reason, settings.place("source")) from error


@contextmanager
def naming_failures(settings: AutomationSettings) -> Iterator[None]:
    """Names what goes wrong while SQLMesh works with a project.

    Errors that it does not know pass through unchanged.

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
        named: AutomationError | None = cache_failure(error) or _unavailable(settings, error)
        if named is None and isinstance(error, SQLMeshError):
            named = SQLMeshFailed(settings.projects, str(error).strip())
        if named is None:
            raise
        raise named from error


def _unavailable(settings: AutomationSettings, error: Exception) -> Unavailable | None:
    """The error for a database that is locked or out of reach, if that is what happened."""
    cause: BaseException | None = error
    while cause is not None:
        kinds = {kind.__name__ for kind in type(cause).__mro__}
        if "IOException" in kinds and (refusal := lock_refusal(str(cause))) is not None:
            return DatabaseLocked(refusal.database, refusal.reason)
        # Every driver names these two after PEP 249.
        if kinds & {"OperationalError", "InterfaceError", "IOException"}:
            # SQLMesh's own message, where it has one, names the statement too.
            reason = str(error) if str(cause) in str(error) else str(cause)
            return StateUnavailable(settings.projects, reason.strip())
        cause = cause.__cause__ or cause.__context__
    # The drivers of warehouses in the cloud raise classes of their own.
    return StateUnavailable(settings.projects, str(error).strip()) if is_outage(error) else None
