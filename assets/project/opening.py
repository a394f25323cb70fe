"""The SQLMesh project: opening it and reading its facts.

``sqlmesh`` is imported inside functions, because definitions import this module.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ...config.errors import (
    GatewayUnknown,
    IncompatiblePackages,
    ProjectEmpty,
    ProjectFileInvalid,
    ProjectInvalid,
)
from ...config.settings import AutomationSettings
from ..lease.waiting import DuckDBFile
from ..sqlmesh_internals import set_default_catalog, state_connection
from .cache_failures import shorten_cache_tracebacks
from .failures import naming_failures, naming_refusals
from .manifest import Manifest
from .model_facts import manifest_of

if TYPE_CHECKING:
    from sqlmesh.core.config import Config
    from sqlmesh.core.config.connection import ConnectionConfig
    from sqlmesh.core.context import Context

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
        ProjectInvalid: SQLMesh refuses the configuration.
        ProjectFileInvalid: SQLMesh refuses another file.
        GatewayUnknown: The gateway is not configured.
        IncompatiblePackages: ``sqlglotc`` is installed.
        Unavailable: A database is locked or out of reach.
    """
    import_sqlmesh()
    from sqlmesh.core.context import Context

    context = None
    with naming_failures(settings):
        try:
            with SQLMESH_LOCK, naming_refusals(settings, ProjectInvalid):
                context = Context(
                    paths=settings.projects,
                    gateway=settings.gateway,
                    config=_configs(settings),
                    load=False,
                )
            if load:
                load_project(context, settings)
            yield context
        finally:
            if context is not None:
                context.close()


def load_project(context: Context, settings: AutomationSettings) -> None:
    """Loads the files of a project, for which SQLMesh opens the databases of all gateways.

    Raises:
        ProjectFileInvalid: SQLMesh refuses a file.
        ProjectInvalid: SQLMesh refuses a connection of the configuration.
        Unavailable: A database is locked or out of reach.
    """
    with SQLMESH_LOCK:
        with naming_refusals(settings, ProjectInvalid):
            _name_catalogs(context)
        with naming_refusals(settings, ProjectFileInvalid):
            context.load()


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
    shorten_cache_tracebacks()
    set_console(NoopConsole())


def _configs(settings: AutomationSettings) -> dict[Path, Config]:
    """The configurations of the projects, once they are known to have the gateway."""
    from sqlmesh.core.config import Config
    from sqlmesh.core.config.loader import load_configs

    # The gateway is the main project's, as in ``Context``; the others name their models' own.
    name = settings.sqlmesh_config
    configs = load_configs(name, Config, settings.projects)
    config = next(iter(configs.values()))
    gateways = config.gateways if isinstance(config.gateways, dict) else {}
    if settings.gateway is not None and settings.gateway.lower() not in gateways:
        place = settings.place("gateway")
        raise GatewayUnknown(settings.gateway, gateways, settings.projects, place)
    return configs


def _name_catalogs(context: Context) -> None:
    """Tells SQLMesh the default catalog of DuckDB databases that do not exist yet.

    It would ask the database, and DuckDB would make one.
    """
    import duckdb

    for gateway, adapter in context.engine_adapters.items():
        connection = _connection(context, gateway)
        files = files_of(connection)
        if not files or any(file.path.exists() for file in files):
            continue
        if catalogs := getattr(connection, "catalogs", None):
            set_default_catalog(adapter, next(iter(catalogs)))
            continue
        # DuckDB names a catalog after the file; only it knows all its rules for that.
        with (
            tempfile.TemporaryDirectory() as folder,
            duckdb.connect(str(Path(folder) / files[0].path.name)) as database,
        ):
            ((catalog,),) = database.execute("SELECT current_database()").fetchall()
        set_default_catalog(adapter, catalog)


def _connection(context: Context, gateway: str) -> ConnectionConfig:
    """The connection of a gateway, of the project that SQLMesh takes it from."""
    of = (config for config in context.configs.values() if gateway in config.gateways)
    return next(of, context.config).get_connection(gateway)


def duckdb_files(context: Context) -> list[DuckDBFile]:
    """The DuckDB files that a context opens: of its state, and of the tables of every gateway.

    SQLMesh opens all gateways of the configuration to learn their default catalogs, also those
    that no model uses.
    """
    connections = [context.connection_config, state_connection(context)]
    for config in context.configs.values():
        connections += [config.get_connection(gateway) for gateway in config.gateways]
    read_only: dict[Path, bool] = {}
    for file in (file for connection in connections for file in files_of(connection)):
        read_only[file.path] = file.read_only and read_only.get(file.path, True)
    return sorted(DuckDBFile(path, only) for path, only in read_only.items())


def files_of(connection: ConnectionConfig) -> list[DuckDBFile]:
    """The DuckDB files that a connection opens or attaches."""
    return [DuckDBFile(Path(path).absolute(), only) for path, only in _paths_of(connection)]


def relative_paths(context: Context) -> list[str]:
    """Returns the paths of DuckDB files that depend on the working directory of each process."""
    connections = (context.connection_config, state_connection(context))
    paths = {path for connection in connections for path, _ in _paths_of(connection)}
    return sorted(path for path in paths if not Path(path).is_absolute())


def _paths_of(connection: ConnectionConfig) -> Iterator[tuple[str, bool]]:
    """Yields the paths of DuckDB files as the configuration has them, and which are read alone."""
    if connection.type_ != "duckdb":
        return
    catalogs = getattr(connection, "catalogs", None) or {}
    for place in (getattr(connection, "database", None), *catalogs.values()):
        # A catalog is a path, or options that name its type: SQLite's and PostgreSQL's lock nobody.
        path = place if isinstance(place, str) else getattr(place, "path", None)
        kind, read_only = getattr(place, "type", "duckdb"), getattr(place, "read_only", False)
        elsewhere = path and path.startswith(("md:", "ducklake:"))
        if path and path != ":memory:" and kind == "duckdb" and not elsewhere:
            yield path, read_only


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
            raise ProjectEmpty(settings.projects, settings.place("project"))
        audits = context.standalone_audits.values()
        manifest = manifest_of(context, settings, fingerprint, models, audits)
        return dataclasses.replace(manifest, beside_plan=plan_of_other_projects(context))


def plan_of_other_projects(context: Context) -> str | None:
    """Returns the plan that a project with a name in SQLMesh is loaded beside.

    SQLMesh then takes the models of other projects with the same state from its environment
    ``prod``, whatever environment is automated (``Context.load``).

    Returns:
        The plan's id, empty if there is no ``prod`` yet; ``None`` for a project without a name.
    """
    if not any(config.project for config in context.configs.values()):
        return None
    prod = context.state_reader.get_environment("prod")
    return prod.plan_id if prod is not None else ""
