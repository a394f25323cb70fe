"""The file in which the manifest is kept between processes.

``prepare`` writes the file once; code servers, run workers and step processes read it. It is
reused while the fingerprint of everything that it was made from is unchanged. What is read back
may be anything: a person names the place, and others can write there.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import secrets
import stat
from collections.abc import Callable, Mapping
from pathlib import Path

from ...config.errors import ManifestFileTaken
from ...config.settings import AutomationSettings
from .fingerprint import project_fingerprint
from .manifest import MARK, Manifest, ManifestModel

_LARGEST = 1024**3
_ABSENT = {errno.ENOENT, errno.ENOTDIR}

logger = logging.getLogger(__name__)


def manifest_path(settings: AutomationSettings) -> Path:
    """Where the manifest of these settings is kept: with several projects, in the main one."""
    if settings.manifest is not None:
        return settings.manifest
    main, *others = settings.projects
    name = f"manifest-{settings.environment}-{settings.gateway or 'default'}"
    name += f"-{settings.sqlmesh_config}" if settings.sqlmesh_config else ""
    if others:  # apart from that of the main one alone
        name += f"-{hashlib.sha256(str(settings.projects).encode()).hexdigest()[:8]}"
    return main / ".cache" / "dagster_sqlmesh_automation" / f"{name}.json"


def prepare(
    settings: AutomationSettings,
    build: Callable[[AutomationSettings, str], Manifest],
    *,
    still_holds: Callable[[AutomationSettings, Manifest], bool] = lambda settings, manifest: True,
    force: bool = False,
) -> Manifest:
    """Returns the manifest, read from its file where that still holds, built anew where not.

    Args:
        settings: The project, gateway and file.
        build: Loads the SQLMesh project; called with the settings and the fingerprint.
        still_holds: Asked of a manifest with the right fingerprint.
        force: Build in any case.

    Raises:
        ConfigurationError: The project cannot be loaded, or the setting ``MANIFEST`` names
            something else than a manifest.
        Unavailable: The database that tells the default catalog cannot be opened.
    """
    fingerprint = project_fingerprint(settings, manifest_path(settings))
    reusable = read(settings)
    if reusable is not None and (force or reusable.fingerprint != fingerprint):
        reusable = None
    # Asked last, because it may open a database.
    if reusable is not None and still_holds(settings, reusable):
        return reusable
    manifest = build(settings, fingerprint)
    write(settings, manifest)
    return manifest


def read(settings: AutomationSettings) -> Manifest | None:
    """Returns what the file has, if it is there and can be used.

    Raises:
        ManifestFileTaken: The setting ``MANIFEST`` names something else than a manifest.
    """
    try:
        return _read(settings)
    except (OSError, ValueError) as error:
        path = manifest_path(settings)
        logger.warning("The manifest %s cannot be used and is built anew: %s", path, error)
        return None


def remembered(settings: AutomationSettings) -> Mapping[str, ManifestModel]:
    """The models of the file by :attr:`ManifestModel.columns_hash`; none where it is of no use."""
    try:
        manifest = _read(settings)
    except (OSError, ValueError):
        return {}  # :func:`read` has told
    models = manifest.models if manifest else ()
    return {model.columns_hash: model for model in models if model.columns_hash}


def write(settings: AutomationSettings, manifest: Manifest) -> None:
    """Keeps a manifest for other processes; a warning tells if that is not possible.

    Raises:
        ManifestFileTaken: The setting ``MANIFEST`` names something else than a manifest.
    """
    if reason := not_kept(settings, manifest):
        # Definitions still load from memory; only the next process pays again.
        logger.warning("%s. %s", reason, cure(settings))


def not_kept(settings: AutomationSettings, manifest: Manifest) -> str | None:
    """Returns why the file cannot hold a manifest; ``None`` if it holds it now.

    Raises:
        ManifestFileTaken: The setting ``MANIFEST`` names something else than a manifest.
    """
    path = manifest_path(settings)
    content = manifest.to_json().encode()
    try:
        if _content(settings) == content:
            return None
    except ValueError:
        pass  # ours, or at a place of ours, and of no use
    except OSError as error:
        return f"The manifest cannot be read at {path} ({error}), so it is not written either"
    try:
        _replace(path, content)
    except OSError as error:
        return f"The manifest cannot be kept at {path} ({error})"
    return None


def cure(settings: AutomationSettings) -> str:
    """Returns what a person does about a manifest that is not kept."""
    return (
        "Every process will load the SQLMesh project; "
        f"set {settings.place('manifest')} to a file that can be written."
    )


def _read(settings: AutomationSettings) -> Manifest | None:
    content = _content(settings)
    return Manifest.from_json(content) if content else None


def _content(settings: AutomationSettings) -> bytes | None:
    """Returns the file's bytes; ``None`` if there is no file.

    Neither a pipe nor a device is opened, and no more is read than a manifest may have.

    Raises:
        ManifestFileTaken: The setting ``MANIFEST`` names something else than a manifest.
        ValueError: The file cannot be used and may be overwritten.
        OSError: The file cannot be read.
    """
    path = manifest_path(settings)
    try:
        status = path.lstat()
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        raise
    try:
        if not stat.S_ISREG(status.st_mode):
            raise _NotOurs(f"is {_kind(status.st_mode)}")
        with path.open("rb") as file:
            content = file.read(len(MARK))
            if content and not content.startswith(MARK):
                raise _NotOurs("holds something else than a manifest")
            if status.st_size > _LARGEST:
                raise ValueError(f"its {status.st_size} bytes are more than a manifest has")
            return content + file.read(_LARGEST)
    except _NotOurs as error:
        if settings.manifest is None:
            raise  # the folder has this package's name
        raise ManifestFileTaken(path, str(error), settings.place("manifest")) from None


class _NotOurs(ValueError):
    """Something at the manifest's place that this package has not written."""


def _kind(mode: int) -> str:
    kinds = {
        stat.S_ISLNK: "a symbolic link",
        stat.S_ISDIR: "a folder",
        stat.S_ISFIFO: "a pipe",
        stat.S_ISSOCK: "a socket",
    }
    return next((kind for test, kind in kinds.items() if test(mode)), "a device")


def _replace(path: Path, content: bytes) -> None:
    """Writes all or nothing: a reader sees the old file or the new one.

    Others may read it as the process's umask says: an image is often built by another user than
    the one who runs it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
