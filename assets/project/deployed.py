"""Definitions from what a SQLMesh environment holds, and not from the project's files.

A code server asks the environment for its plan when it loads, and so does ``prepare``. Run workers
and step processes take the manifest file as it is.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ...config.errors import Unavailable
from ...config.rules import Source
from ...config.settings import AutomationSettings
from ..dagster_internals import DefinitionsLoadContext, DefinitionsLoadType
from ..lease.waiting import Wait, database_lease
from .fingerprint import deployed_fingerprint
from .manifest import Manifest
from .manifest_file import manifest_path, prepare, read, write
from .model_facts import manifest_of
from .opening import duckdb_files, load_manifest, open_context, plan_of_other_projects

if TYPE_CHECKING:
    from sqlmesh.core.context import Context

logger = logging.getLogger(__name__)


def current_manifest(settings: AutomationSettings, *, force: bool = False) -> Manifest:
    """The manifest, from where the setting ``SOURCE`` says.

    Args:
        settings: The project, environment and file.
        force: Build in any case.

    Raises:
        ConfigurationError: The project cannot be loaded, or the environment does not exist.
        Unavailable: A database that has to be read cannot be opened.
    """
    if settings.source is Source.PROJECT:
        return prepare(settings, load_manifest, still_holds=_is_beside_its_plan, force=force)
    fingerprint = deployed_fingerprint(settings)
    manifest_file = None if force else read(settings)
    if manifest_file is not None and manifest_file.fingerprint != fingerprint:
        manifest_file = None
    if manifest_file is not None and is_part_of_a_run():
        return manifest_file
    try:
        manifest = _deployed(settings, fingerprint, manifest_file)
    except Unavailable as error:
        if manifest_file is None:
            raise
        logger.warning(
            "The models of SQLMesh environment %r are taken from %s, as of plan %s: %s",
            settings.environment,
            manifest_path(settings),
            manifest_file.plan_id,
            error,
        )
        return manifest_file
    if manifest is not manifest_file:
        write(settings, manifest)
    return manifest


def is_part_of_a_run() -> bool:
    """Whether definitions that a code server has loaded before are loaded again."""
    return (
        DefinitionsLoadContext.is_set()
        and DefinitionsLoadContext.get().load_type is DefinitionsLoadType.RECONSTRUCTION
    )


def _is_beside_its_plan(settings: AutomationSettings, manifest: Manifest) -> bool:
    """Whether the models of other projects in a manifest are still those of the state."""
    if manifest.beside_plan is None or is_part_of_a_run():
        return True
    try:
        with open_context(settings, load=False) as context, database_lease_to_load(context):
            return plan_of_other_projects(context) == manifest.beside_plan
    except Unavailable as error:
        logger.warning(
            "The models of other projects are as of plan %s: %s", manifest.beside_plan, error
        )
        return True


def _deployed(settings: AutomationSettings, fingerprint: str, earlier: Manifest | None) -> Manifest:
    """The manifest of the environment's plan, the one that was found where it is of that plan."""
    from .environment import read_environment

    with open_context(settings, load=False) as context, database_lease_to_load(context):
        environment = read_environment(context, settings)
        if earlier is not None and earlier.plan_id == environment.plan_id:
            return earlier
        snapshots = context.state_sync.get_snapshots(environment.snapshots).values()
        return manifest_of(
            context,
            settings,
            fingerprint,
            {snapshot.name: snapshot.model for snapshot in snapshots if snapshot.is_model},
            [snapshot.audit for snapshot in snapshots if snapshot.is_audit],
            environment.plan_id,
        )


@contextmanager
def database_lease_to_load(context: Context) -> Iterator[None]:
    """Holds the lease of a context's DuckDB files and closes the context before it lets go.

    Raises:
        Unavailable: An execution has held it for a second.
    """
    with database_lease(duckdb_files(context), Wait(1.0), "a code location that loads"):
        try:
            yield
        finally:
            # Whoever gets the lease next opens the same files.
            context.close()
