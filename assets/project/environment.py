"""The environment as SQLMesh's state has it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...config.errors import EnvironmentNotFound, StateVersionMismatch
from ...config.settings import AutomationSettings
from ..sqlmesh_internals import state_connection, state_is_open, unmigrated_state
from .opening import files_of

if TYPE_CHECKING:
    from sqlmesh.core.context import Context
    from sqlmesh.core.environment import Environment
    from sqlmesh.core.state_sync import StateSync


def read_environment(context: Context, settings: AutomationSettings) -> Environment:
    """The environment as SQLMesh's state has it now.

    Raises:
        EnvironmentNotFound: It has never been planned, or there is no state at all.
        StateVersionMismatch: The state has to be migrated, or SQLMesh to be upgraded.
    """
    state = state_connection(context)
    files = files_of(state)
    # Not of other gateways: to look for a state in a file that is not there makes the file.
    if files and not any(file.path.exists() for file in files):
        raise EnvironmentNotFound(settings.environment, settings.project)
    if not state_is_open(context):
        with unmigrated_state(context) as state_sync:
            # get_versions takes every error for a missing table.
            state_sync.engine_adapter.fetchone("SELECT 1")  # type: ignore[attr-defined]
            if state_sync.get_versions(validate=False).schema_version == 0:
                raise EnvironmentNotFound(settings.environment, settings.project)
            _check_versions(state_sync, settings)
    environment = context.state_sync.get_environment(settings.environment)
    if environment is None:
        raise EnvironmentNotFound(settings.environment, settings.project)
    return environment


def _check_versions(state_sync: StateSync, settings: AutomationSettings) -> None:
    """Makes sure that the state is of the installed versions of SQLMesh and SQLGlot."""
    from sqlmesh.utils.errors import SQLMeshError

    try:
        state_sync.get_versions()
    except SQLMeshError as error:
        raise StateVersionMismatch(settings.project, str(error)) from error
