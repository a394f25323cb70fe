"""The SQLMesh project: opening it and reading its facts.

``sqlmesh`` is imported inside functions, because definitions import this module.
"""

from __future__ import annotations

import importlib.metadata
import os
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config.errors import GatewayUnknown, IncompatiblePackages, ProjectEmpty
from ..config.settings import AutomationSettings
from .failures import naming_failures, naming_refusals
from .manifest import Manifest, ManifestAudit, ManifestModel, ManifestStandaloneAudit
from .naming import check_name

if TYPE_CHECKING:
    from sqlmesh.core.audit import StandaloneAudit
    from sqlmesh.core.config.connection import ConnectionConfig
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
            with SQLMESH_LOCK, naming_refusals(settings):
                _check_gateway(settings)
                context = Context(paths=[settings.project], gateway=settings.gateway, load=False)
                if load:
                    _name_catalogs(context)
                    context.load()
            yield context
        finally:
            if context is not None:
                context.close()


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
        # Its compiled modules lie in sqlglot's own folder, so only its metadata shows it.
        if not any(importlib.metadata.distributions(name="sqlglotc")):
            raise
        raise IncompatiblePackages(str(error)) from error
    set_console(NoopConsole())


def _check_gateway(settings: AutomationSettings) -> None:
    from sqlmesh.core.config import Config
    from sqlmesh.core.config.loader import load_configs

    config = load_configs(None, Config, [settings.project])[settings.project]
    known = config.gateways if isinstance(config.gateways, dict) else {}
    if settings.gateway is not None and settings.gateway.lower() not in known:
        variable = settings.variable("GATEWAY")
        raise GatewayUnknown(settings.gateway, known, settings.project, variable)


def _name_catalogs(context: Context) -> None:
    """Tells SQLMesh the default catalog of DuckDB databases that do not exist yet.

    It would ask the database, and DuckDB would make one.
    """
    import duckdb

    for gateway, adapter in context.engine_adapters.items():
        connection = context.config.get_connection(gateway)
        files = _files(connection)
        if not files or any(file.exists() for file in files):
            continue
        if catalogs := getattr(connection, "catalogs", None):
            adapter._default_catalog = next(iter(catalogs))
            continue
        # DuckDB names a catalog after the file; only it knows all its rules for that.
        with (
            tempfile.TemporaryDirectory() as folder,
            duckdb.connect(str(Path(folder) / files[0].name)) as database,
        ):
            ((adapter._default_catalog,),) = database.execute(
                "SELECT current_database()"
            ).fetchall()


def duckdb_files(context: Context) -> list[Path]:
    """The DuckDB files that a context opens, for its state and its tables."""
    connections = (context.connection_config, context._state_connection_config)
    return sorted({file for connection in connections for file in _files(connection)})


def _files(connection: ConnectionConfig) -> list[Path]:
    if connection.type_ != "duckdb":
        return []
    catalogs = getattr(connection, "catalogs", None) or {}
    paths = [getattr(connection, "database", None), *catalogs.values()]
    files = []
    for path in paths:
        path = path if isinstance(path, str) else getattr(path, "path", None)
        if path and path != ":memory:" and not path.startswith(("md:", "ducklake:")):
            files.append(Path(path).absolute())
    return files


def load_manifest(settings: AutomationSettings, fingerprint: str) -> Manifest:
    """Loads the project's files with SQLMesh and reads the facts that definitions need.

    Raises:
        ProjectEmpty: There are no models.
        ConfigurationError: As :func:`open_context`.
        Unavailable: As :func:`open_context`.
    """
    with open_context(settings, load=True) as context:
        models = dict(context.models)
        if not any(not model.kind.is_external for model in models.values()):
            raise ProjectEmpty(settings.project, settings.variable("PROJECT"))
        audits = context.standalone_audits.values()
        return manifest_of(context, settings, fingerprint, models, audits)


def manifest_of(
    context: Context,
    settings: AutomationSettings,
    fingerprint: str,
    models: Mapping[str, Model],
    audits: Iterable[StandaloneAudit],
    plan_id: str | None = None,
) -> Manifest:
    """The manifest of some models and standalone audits, wherever they come from.

    Args:
        context: Open; for its gateway and catalogs.
        settings: The project.
        fingerprint: Of what the manifest is made from.
        models: By ``fqn``.
        audits: Standalone audits.
        plan_id: The plan that they were deployed with, where they come from an environment.
    """
    from sqlmesh.utils.dag import DAG

    default_catalog = context.default_catalog
    # Snapshots keep, if anything, where a file was on the machine that planned them.
    project = settings.project if plan_id is None else None
    graph: DAG[str] = DAG()
    for fqn, model in models.items():
        graph.add(fqn, model.depends_on)
    return Manifest(
        fingerprint=fingerprint,
        gateway=context.selected_gateway,
        engine=context.connection_config.type_,
        state_engine=context._state_connection_config.type_,
        models=tuple(
            _external(fqn, default_catalog)
            if fqn not in models
            else _model(models[fqn], project, default_catalog)
            for fqn in graph.sorted
        ),
        standalone_audits=tuple(
            ManifestStandaloneAudit(
                fqn=audit.fqn,
                name=audit.name,
                cron=audit.cron,
                cron_tz=str(audit.cron_tz) if audit.cron_tz else None,
                depends_on=tuple(sorted(audit.depends_on)),
                description=audit.description,
                path=_relative(audit._path, project),
            )
            for audit in audits
        ),
        plan_id=plan_id,
    )


def _model(model: Model, project: Path | None, default_catalog: str | None) -> ManifestModel:
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
        metadata_hash=None if model.kind.is_external else model.metadata_hash,
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
        metadata_hash=None,
        path=None,
        audits=(),
    )


def _relative(path: Path | None, project: Path | None) -> str | None:
    if path is None or project is None:
        return None
    return str(path.relative_to(project)) if path.is_relative_to(project) else str(path)
