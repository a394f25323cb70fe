"""A digest of everything that a manifest is made from."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
from collections.abc import Iterator, Set
from importlib.metadata import version
from pathlib import Path

from ...config.errors import ProjectNotFound
from ...config.paths import Projects
from ...config.settings import AutomationSettings

CONFIG_FILES = ("config.py", "config.yml", "config.yaml", "sqlmesh.yml", "sqlmesh.yaml")
"""Files that make a folder a SQLMesh project (``sqlmesh.core.config.common``)."""

_SOURCES = {".sql", ".py", ".yaml", ".yml", ".csv", ".json", ".toml", ".jinja"}
_PASSED_OVER = frozenset({"node_modules", "__pycache__"})
_NO_MODELS = frozenset({"logs", "target"})
"""Folders of the project itself that SQLMesh and dbt write to."""
# Set by this package when it imports SQLMesh, so that the second look would differ.
_OURS = {"SQLMESH__DISABLE_ANONYMIZED_ANALYTICS", "MAX_FORK_WORKERS"}
_LARGE = 16 * 1024 * 1024
_NAME = re.compile(rb"[A-Za-z_][A-Za-z0-9_]+")
_DOTENV = re.compile(rb"^\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=", re.MULTILINE)


def is_project(folder: Path) -> bool:
    """Whether a folder has a SQLMesh configuration."""
    return any((folder / name).is_file() for name in CONFIG_FILES)


def project_fingerprint(settings: AutomationSettings, manifest: Path) -> str:
    """Digest of the project's files, the settings that matter, and the package versions.

    Files count by content, so that a fresh checkout or image layer reuses what was prepared for
    it; above 16 MiB by size and time. Environment variables that a configuration or Python file
    of the project names count by value, but for those of a ``.env`` file: SQLMesh overrides them.

    Args:
        settings: The project, gateway and environment.
        manifest: The file that is made from all this, which may be in the project.

    Raises:
        ProjectNotFound: There is no SQLMesh configuration in a folder.
    """
    digest = _settings_digest(settings)
    names: set[bytes] = set()
    overridden: set[bytes] = set()
    for folder, path in _files(settings.projects):
        if path == manifest:
            continue
        digest.update(f"{folder}\0{path.relative_to(folder)}\0".encode())
        stat = path.stat()
        if stat.st_size > _LARGE:
            digest.update(f"{stat.st_size}:{stat.st_mtime_ns}\0".encode())
            continue
        content = path.read_bytes()
        digest.update(hashlib.sha256(content).digest())
        if path.suffix in {".py", ".yaml", ".yml"}:
            names.update(_NAME.findall(content))
        if path.name == ".env":
            overridden.update(_DOTENV.findall(content))
    for variable in sorted(os.environ.keys() - _OURS):
        name = variable.encode()
        matters = name in names or variable.upper().startswith("SQLMESH__")
        if matters and name not in overridden:
            digest.update(f"{variable}={os.environ[variable]}\0".encode())
    return digest.hexdigest()


def made_for(settings: AutomationSettings) -> str:
    """Returns what a manifest is of, whatever its content: project, gateway and environment."""
    return (
        f"{settings.projects} gateway {settings.gateway} environment {settings.environment} "
        f"source {settings.source} config {settings.sqlmesh_config}"
    )


def deployed_fingerprint(settings: AutomationSettings) -> str:
    """The same of a manifest that is made from what an environment holds, its plan apart.

    Of the project's files only the configuration counts: it says where SQLMesh's state is.

    Raises:
        ProjectNotFound: There is no SQLMesh configuration in a folder.
    """
    digest = _settings_digest(settings)
    for folder, name in itertools.product(settings.projects, (*CONFIG_FILES, ".env")):
        file = folder / name
        if file.is_file():
            digest.update(f"{file}\0".encode() + hashlib.sha256(file.read_bytes()).digest())
    return f"{settings.source}-{digest.hexdigest()}"


def _settings_digest(settings: AutomationSettings) -> hashlib._Hash:
    for folder in settings.projects:
        if not is_project(folder):
            raise ProjectNotFound(folder, settings.place("project"))
    digest = hashlib.sha256()
    for package in ("dagster-sqlmesh-automation", "sqlmesh", "sqlglot"):
        digest.update(f"{package}={version(package)}\0".encode())
    digest.update(f"{settings.projects}\0{settings.gateway}\0{settings.environment}\0".encode())
    shown = (settings.description_sql, settings.description_sql_characters)
    digest.update(f"{settings.sqlmesh_config}\0{shown}\0".encode())
    return digest


def _files(projects: Projects) -> Iterator[tuple[Path, Path]]:
    """The files of projects that SQLMesh may read, each behind the folder of its project."""
    for folder in projects:
        for path in sources(folder, _PASSED_OVER | _NO_MODELS):
            yield folder, path


def sources(folder: Path, passed_over: Set[str] = _PASSED_OVER) -> Iterator[Path]:
    """The files below a folder that SQLMesh may read, in a stable order."""
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            path = Path(entry.path)
            if entry.is_dir():
                if not entry.name.startswith(".") and entry.name not in passed_over:
                    yield from sources(path)
            elif path.suffix in _SOURCES or entry.name == ".env":
                yield path
