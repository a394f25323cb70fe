"""The environment as SQLMesh's state has it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ...config.errors import DatabaseMissing, EnvironmentNotFound, StateVersionMismatch
from ...config.settings import AutomationSettings
from ..sqlmesh_internals import state_connection, state_is_open, unmigrated_state
from .opening import files_of, relative_paths

if TYPE_CHECKING:
    from sqlmesh.core.context import Context
    from sqlmesh.core.environment import Environment
    from sqlmesh.core.state_sync import StateSync


def read_environment(context: Context, settings: AutomationSettings) -> Environment:
    """The environment as SQLMesh's state has it now.

    Raises:
        EnvironmentNotFound: It has never been planned, or there is no state at all.
        DatabaseMissing: The DuckDB file with its tables is not there.
        StateVersionMismatch: The state has to be migrated, or SQLMesh to be upgraded.
    """
    files = files_of(state_connection(context))
    # Not of other gateways: to look for a state in a file that is not there makes the file.
    if files and not any(file.path.exists() for file in files):
        raise _not_found(context, settings)
    if not state_is_open(context):
        with unmigrated_state(context) as state_sync:
            # get_versions takes every error for a missing table.
            state_sync.engine_adapter.fetchone("SELECT 1")  # type: ignore[attr-defined]
            if state_sync.get_versions(validate=False).schema_version == 0:
                raise _not_found(context, settings)
            _check_versions(state_sync, settings)
    environment = context.state_sync.get_environment(settings.environment)
    if environment is None:
        raise _not_found(context, settings)
    for file in files_of(context.connection_config):
        if not file.path.exists():
            raise DatabaseMissing(file.path, settings.environment, relative_note(context, settings))
    return environment


def relative_note(context: Context, settings: AutomationSettings) -> str:
    """Returns which relative paths of databases mislead, and the cure; empty if there are none."""
    if not (paths := relative_paths(context)):
        return ""
    return (
        f"The configuration of {settings.projects} has the relative path {', '.join(paths)}, and "
        f"this process works in {Path.cwd()}. Make it absolute, in config.yaml as "
        "{{ env_var('NAME') }}/…, in config.py with Path(__file__), or start every process in the "
        "folder where it was planned"
    )


def _not_found(context: Context, settings: AutomationSettings) -> EnvironmentNotFound:
    """Returns the error for an environment that the state does not have, with where that is."""
    state = state_connection(context)
    place = ""
    if files := [file.path for file in files_of(state)]:
        is_there = any(file.exists() for file in files)
        place = f", which is {files[0]}" if is_there else f": there is no file {files[0]}"
    elif state.type_ == "duckdb" and not getattr(state, "database", None):
        place = ", which is in memory and ends with each process: name a database file for it"
    relative = relative_note(context, settings)
    command = settings.sqlmesh_command(f"plan {settings.environment}")
    return EnvironmentNotFound(settings.environment, settings.projects, command, place, relative)


def _check_versions(state_sync: StateSync, settings: AutomationSettings) -> None:
    """Makes sure that the state is of the installed versions of SQLMesh and SQLGlot."""
    from sqlmesh.utils.errors import SQLMeshError

    try:
        state_sync.get_versions()
    except SQLMeshError as error:
        raise StateVersionMismatch(settings.projects, str(error)) from error
