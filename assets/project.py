"""The SQLMesh project: opening it, reading its facts, and naming what goes wrong.

``sqlmesh`` is imported inside functions, because definitions import this module.
"""

from __future__ import annotations

import importlib.util
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config.errors import (
    AutomationError,
    DatabaseLocked,
    GatewayUnknown,
    IncompatiblePackages,
    ProjectEmpty,
    ProjectInvalid,
    SQLMeshFailed,
    StateUnavailable,
    Unavailable,
)
from ..config.settings import AutomationSettings
from .manifest import Manifest, ManifestAudit, ManifestModel, ManifestStandaloneAudit
from .naming import check_name

if TYPE_CHECKING:
    from sqlmesh.core.context import Context
    from sqlmesh.core.model import Model

SQLMESH_LOCK = threading.RLock()
"""Held while SQLMesh loads or computes in this process: contexts share croniter objects and
caches that are not thread-safe."""


@contextmanager
def open_context(settings: AutomationSettings, *, load: bool) -> Iterator[Context]:
    """A SQLMesh context whose connections are closed at the end.

    Args:
        settings: The project and its gateway.
        load: Whether to load the project's files. Without, only the configuration is read;
            models come from SQLMesh's state.

    Raises:
        ProjectInvalid: SQLMesh refuses the configuration or a file.
        GatewayUnknown: The gateway is not configured.
        IncompatiblePackages: ``sqlglotc`` is installed.
        Unavailable: A database is locked or out of reach.
    """
    import_sqlmesh()
    from sqlmesh.core.context import Context

    context = None
    with naming_failures(settings):
        try:
            with SQLMESH_LOCK, _naming_refusals(settings):
                _check_gateway(settings)
                context = Context(paths=[settings.project], gateway=settings.gateway, load=load)
            yield context
        finally:
            if context is not None:
                context.close()


@contextmanager
def _naming_refusals(settings: AutomationSettings) -> Iterator[None]:
    """What SQLMesh raises while it opens a project is about the project."""
    from pydantic import ValidationError
    from sqlmesh.utils.errors import SQLMeshError

    try:
        yield
    except (SQLMeshError, ValidationError) as error:
        raise _unavailable(settings, error) or ProjectInvalid(
            settings.project, str(error).strip()
        ) from error


def import_sqlmesh() -> None:
    """Imports SQLMesh, silent and without its usage reports.

    Raises:
        IncompatiblePackages: ``sqlglotc`` is installed, which breaks SQLMesh's import.
    """
    os.environ.setdefault("SQLMESH__DISABLE_ANONYMIZED_ANALYTICS", "true")
    # A run worker that forks after Dagster has started threads can hang.
    os.environ.setdefault("MAX_FORK_WORKERS", "1")
    try:
        from sqlmesh.core.console import NoopConsole, set_console
    except TypeError as error:
        if importlib.util.find_spec("sqlglotc") is None:
            raise
        raise IncompatiblePackages(str(error)) from error
    set_console(NoopConsole())


@contextmanager
def naming_failures(settings: AutomationSettings) -> Iterator[None]:
    """Turns SQLMesh's and the database drivers' errors into this package's.

    Errors that it does not know pass through unchanged.
    """
    from sqlmesh.utils.errors import SQLMeshError

    try:
        yield
    except AutomationError:
        raise
    except Exception as error:
        named: AutomationError | None = _unavailable(settings, error)
        if named is None and isinstance(error, SQLMeshError):
            named = SQLMeshFailed(settings.project, str(error).strip())
        if named is None:
            raise
        raise named from error


def _unavailable(settings: AutomationSettings, error: Exception) -> Unavailable | None:
    """The error for a database that is locked or out of reach, if that is what happened."""
    cause: BaseException | None = error
    while cause is not None:
        kinds = {kind.__name__ for kind in type(cause).__mro__}
        if "IOException" in kinds and "lock" in str(cause):
            return DatabaseLocked(*_locked(str(cause)))
        # Every driver names these two after PEP 249.
        if kinds & {"OperationalError", "InterfaceError", "IOException"}:
            return StateUnavailable(settings.project, str(cause).strip())
        cause = cause.__cause__ or cause.__context__
    return None


def _locked(message: str) -> tuple[str, str]:
    """DuckDB's message without its prefix, and the file that it names."""
    _, _, rest = message.partition('file "')
    file, _, reason = rest.partition('": ')
    return (file or "of this project"), (reason or message).partition(" See also")[0]


def _check_gateway(settings: AutomationSettings) -> None:
    from sqlmesh.core.config import Config
    from sqlmesh.core.config.loader import load_configs

    config = load_configs(None, Config, [settings.project])[settings.project]
    known = config.gateways if isinstance(config.gateways, dict) else {}
    if settings.gateway is not None and settings.gateway.lower() not in known:
        raise GatewayUnknown(settings.gateway, known, settings.project)


def duckdb_files(context: Context) -> list[Path]:
    """The DuckDB files that a context opens, for its state and its tables."""
    connections = [context.connection_config, context._state_connection_config]
    files: set[Path] = set()
    for connection in connections:
        if connection.type_ != "duckdb":
            continue
        catalogs = getattr(connection, "catalogs", None) or {}
        paths = [getattr(connection, "database", None), *catalogs.values()]
        for path in paths:
            path = path if isinstance(path, str) else getattr(path, "path", None)
            if path and path != ":memory:" and not path.startswith(("md:", "ducklake:")):
                files.add(Path(path).absolute())
    return sorted(files)


def load_manifest(settings: AutomationSettings, fingerprint: str) -> Manifest:
    """Loads the project's files with SQLMesh and reads the facts that definitions need.

    Raises:
        ProjectEmpty: There are no models.
        ConfigurationError: As :func:`open_context`.
        Unavailable: As :func:`open_context`.
    """
    with open_context(settings, load=True) as context:
        known = dict(context.models)
        if not any(not model.kind.is_external for model in known.values()):
            raise ProjectEmpty(settings.project)
        default_catalog = context.default_catalog
        models = [
            _external(fqn, default_catalog)
            if fqn not in known
            else _model(known[fqn], settings.project, default_catalog)
            for fqn in context.dag.sorted
            if fqn not in context.standalone_audits
        ]
        audits = [
            ManifestStandaloneAudit(
                fqn=audit.fqn,
                name=audit.name,
                cron=audit.cron,
                cron_tz=str(audit.cron_tz) if audit.cron_tz else None,
                depends_on=tuple(sorted(audit.depends_on)),
                description=audit.description,
                path=_relative(audit._path, settings.project),
            )
            for audit in context.standalone_audits.values()
        ]
        return Manifest(
            fingerprint=fingerprint,
            gateway=context.selected_gateway,
            engine=context.connection_config.type_,
            models=tuple(models),
            standalone_audits=tuple(audits),
        )


def _model(model: Model, project: Path, default_catalog: str | None) -> ManifestModel:
    catalog = model.catalog
    return ManifestModel(
        fqn=model.fqn,
        name=model.name,
        kind=model.kind.name.value,
        catalog=catalog if catalog and catalog != default_catalog else None,
        schema=model.schema_name,
        table=model.view_name,
        cron=model.cron,
        cron_tz=str(model.cron_tz) if model.cron_tz else None,
        depends_on=tuple(sorted((model.depends_on or set()) - {model.fqn})),
        source=model.source_type,
        dialect=model.dialect,
        description=model.description,
        owner=model.owner,
        tags=tuple(model.tags),
        signals=tuple(name for name, _ in model.signals),
        code_version=None if model.kind.is_external else model.data_hash,
        path=_relative(model._path, project),
        audits=_audits(model),
    )


def _audits(model: Model) -> tuple[ManifestAudit, ...]:
    if model.kind.is_external or model.kind.is_embedded:
        return ()
    audits: dict[str, ManifestAudit] = {}
    for audit, given in model.audits_with_args:
        if audit.skip:
            continue
        # As SnapshotEvaluator._audit: the model's argument wins over the audit's own setting.
        argument = given.get("blocking")
        blocking = audit.blocking if argument is None else argument.sql().upper() == "TRUE"
        args = audit_args(given)
        check = check_name(audit.name, args)
        if check in audits:  # the same use twice is one check
            blocking = blocking or audits[check].blocking
        audits[check] = ManifestAudit(check, audit.name, args, blocking)
    return tuple(audits.values())


def audit_args(args: dict[str, Any]) -> dict[str, str]:
    """An audit's arguments as SQL, as the manifest and a result both spell them."""
    return {
        key: value.sql() if hasattr(value, "sql") else str(value)
        for key, value in args.items()
        if key != "blocking"
    }


def _external(fqn: str, default_catalog: str | None) -> ManifestModel:
    """A table that models read and that no file of the project declares."""
    from sqlglot import exp

    table = exp.to_table(fqn)
    catalog = table.catalog if table.catalog != default_catalog else ""
    return ManifestModel(
        fqn=fqn,
        name=".".join(part for part in (catalog, table.db, table.name) if part),
        kind="EXTERNAL",
        catalog=catalog or None,
        schema=table.db,
        table=table.name,
        cron="@daily",
        cron_tz=None,
        depends_on=(),
        source="external",
        dialect="",
        description=None,
        owner=None,
        tags=(),
        signals=(),
        code_version=None,
        path=None,
        audits=(),
    )


def _relative(path: Path | None, project: Path) -> str | None:
    if path is None:
        return None
    return str(path.relative_to(project)) if path.is_relative_to(project) else str(path)
