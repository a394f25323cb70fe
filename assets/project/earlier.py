"""The manifest of an earlier load, where the project's files no longer load.

Ticks evaluate what the environment holds, whatever the files say, so a file that does not load is
no reason to stop them.
"""

from __future__ import annotations

import dataclasses
import logging

from ...config.errors import ProjectFileInvalid, Unavailable
from ...config.rules import OnInvalidProject
from ...config.settings import AutomationSettings
from .deployed import current_manifest, database_lease_to_load, is_part_of_a_run
from .environment import read_environment
from .fingerprint import made_for
from .manifest import Manifest
from .manifest_file import read
from .opening import open_context

logger = logging.getLogger(__name__)


def usable_manifest(settings: AutomationSettings) -> Manifest:
    """Returns the current manifest, or else the earlier one, with the reason in ``outdated``.

    Raises:
        ConfigurationError: As :func:`.current_manifest`, and nothing earlier can be used.
        Unavailable: As :func:`.current_manifest`.
    """
    try:
        return current_manifest(settings)
    except ProjectFileInvalid as error:
        if settings.on_invalid_project is OnInvalidProject.FAIL:
            raise
        earlier = read(settings)
        if earlier is None or earlier.made_for != made_for(settings):
            raise
        # The code server that launched the run has looked; the run itself may hold the database.
        if not is_part_of_a_run() and not _is_deployed(settings, earlier):
            raise
        outdated = (
            f"Definitions are of an earlier load, because the project at {settings.projects} no "
            f"longer loads: {' '.join(error.reason.split())}. Mend it and reload the code "
            f"location, or set {settings.place('source')}=environment."
        )
        logger.warning("%s", outdated)
        return dataclasses.replace(earlier, outdated=outdated)


def _is_deployed(settings: AutomationSettings, manifest: Manifest) -> bool:
    """Whether the environment still holds models of a manifest, as far as it can be told now.

    Those that it no longer holds are drift, which ticks and checks name one by one.

    Raises:
        EnvironmentNotFound: The environment has never been planned.
    """
    try:
        with open_context(settings, load=False) as context, database_lease_to_load(context):
            environment = read_environment(context, settings)
    except Unavailable as error:
        logger.warning("Whether the environment still holds the models is not known: %s", error)
        return True
    names = {snapshot.name for snapshot in environment.snapshots}
    return any(model.fqn in names for model in manifest.executed)
