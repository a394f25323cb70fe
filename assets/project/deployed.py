"""Definitions from what a SQLMesh environment holds, and not from the project's files.

A code server asks the environment for its plan when it loads, and so does ``prepare``. Run workers
and step processes take the manifest file as it is.
"""

from __future__ import annotations

import logging

from ...config.errors import Unavailable
from ...config.settings import AutomationSettings, Source
from ..dagster_internals import DefinitionsLoadContext, DefinitionsLoadType
from ..lease.waiting import Wait, database_lease
from .fingerprint import deployed_fingerprint
from .manifest import Manifest
from .manifest_file import manifest_path, prepare, read, write
from .model_facts import manifest_of
from .opening import duckdb_files, load_manifest, open_context

_LEASE_SECONDS = 1.0

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
        return prepare(settings, load_manifest, force=force)
    fingerprint = deployed_fingerprint(settings)
    manifest_file = None if force else read(settings)
    if manifest_file is not None and manifest_file.fingerprint != fingerprint:
        manifest_file = None
    if manifest_file is not None and _is_part_of_a_run():
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


def _is_part_of_a_run() -> bool:
    """Whether definitions that a code server has loaded before are loaded again."""
    return (
        DefinitionsLoadContext.is_set()
        and DefinitionsLoadContext.get().load_type is DefinitionsLoadType.RECONSTRUCTION
    )


def _deployed(settings: AutomationSettings, fingerprint: str, earlier: Manifest | None) -> Manifest:
    """The manifest of the environment's plan, the one that was found where it is of that plan."""
    from .environment import read_environment

    with (
        open_context(settings, load=False) as context,
        database_lease(duckdb_files(context), Wait(_LEASE_SECONDS), "a code location that loads"),
    ):
        try:
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
        finally:
            # Before the database's lease is: whoever gets it next opens the same files.
            context.close()
