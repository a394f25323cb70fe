"""Says what drift of a model is, and what ends it: a plan, a reload, or other files."""

from __future__ import annotations

from dataclasses import dataclass

from ...config.errors import ConfigurationError
from ...config.settings import AutomationSettings
from ..ledger.outcome import Hashes
from .fingerprint import project_fingerprint
from .manifest import Manifest, ManifestModel
from .manifest_file import manifest_path

_RELOAD = "reload the code location"


@dataclass(frozen=True, slots=True)
class Cures:
    """Holds what a person does about drift.

    Attributes:
        missing: About a model that the environment does not have.
        differs: About one that the environment has in another version.
        no_asset: About one of the environment that has no asset.
    """

    missing: str
    differs: str
    no_asset: str


def difference(model: ManifestModel, held: Hashes) -> str | None:
    """Returns in words where a definition and the environment differ, if they do.

    Args:
        model: What the definition was made from.
        held: The version that the environment holds.
    """
    # The hash of a SQL model's metadata contains its query, too.
    changed = ""
    if model.code_version != held.data:
        changed = "its logic"
    elif model.metadata_hash != held.metadata:
        changed = "its metadata"
    if not changed:
        return None
    return f"{model.name} differs from what the SQLMesh environment holds in {changed}"


def cures(manifest: Manifest, settings: AutomationSettings, plan_id: str) -> Cures:
    """Returns what ends drift, as far as it can be told from here.

    A plan of older files takes back what newer ones brought, and a reload of unchanged files
    changes nothing, so each is named where it helps.

    Args:
        manifest: What the definitions were made from.
        settings: The SQLMesh environment.
        plan_id: The plan that the environment is at.
    """
    if manifest.plan_id is not None:
        return Cures(_RELOAD, _RELOAD, _RELOAD)
    if manifest.outdated is not None:
        mend = f"mend the project's files, which do not load, and {_RELOAD}"
        return Cures(mend, mend, mend)
    if manifest.beside_plan not in (None, plan_id) and settings.environment == "prod":
        again = f"{_RELOAD}, as there has been a plan since it was loaded"
        return Cures(f"{again}; then plan it if it is still missing", again, again)
    if _have_files_changed(manifest, settings):
        again = f"{_RELOAD}, as the project's files have changed since it was loaded"
        return Cures(again, again, again)
    plan = f"sqlmesh plan {settings.environment}"
    bring = f"bring those here, prepare and {_RELOAD}"
    return Cures(
        missing=f"plan it ({plan}), or, if a plan of newer files took it out, {bring}",
        differs=f"plan it ({plan}), or, if it was planned from newer files, {bring}",
        no_asset=(
            f"take it out by a plan ({plan}), or, if a plan of newer files added it, {bring}; if "
            f"it is another project's, add that to {settings.place('project')} or set "
            f"{settings.place('source')}=environment"
        ),
    )


def _have_files_changed(manifest: Manifest, settings: AutomationSettings) -> bool:
    try:
        current = project_fingerprint(settings, manifest_path(settings))
    except (ConfigurationError, OSError):
        return True  # the files are not even there any more
    return current != manifest.fingerprint
