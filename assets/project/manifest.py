"""The project's facts as JSON, so that definitions load without SQLMesh.

``prepare`` writes the manifest once; code servers, run workers and step processes read it. It is
reused while the fingerprint of everything it was made from is unchanged.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ...config.settings import AutomationSettings
from .fingerprint import project_fingerprint

FORMAT = 4
"""Version of the file's layout. A file with another one is rebuilt."""

LEASED_ENGINES = frozenset({"duckdb", "postgres", "gcp_postgres", "mysql"})
"""SQLMesh's names of the engines on which a state gives runs a lease: DuckDB, whose file one
process opens at a time, and those with locks that belong to a session."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ManifestAudit:
    """One audit of one model.

    Attributes:
        check: Name of its asset check, unique within the model.
        audit: The audit's own name.
        args: The audit's arguments as SQL.
        blocking: Whether SQLMesh stops at this model when the audit fails.
    """

    check: str
    audit: str
    args: Mapping[str, str]
    blocking: bool


@dataclass(frozen=True, slots=True)
class ManifestColumn:
    """One column of a model.

    Attributes:
        type: In the model's SQL dialect; ``UNKNOWN`` where SQLMesh cannot tell.
        reads: The columns that it is made from, each with the ``fqn`` of its model.
    """

    name: str
    type: str
    description: str | None
    reads: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ManifestModel:
    """One SQLMesh model, or a table outside the project that models read.

    Attributes:
        fqn: SQLMesh's fully qualified, quoted name: the model's identity in its state.
        name: The name a person writes.
        kind: SQLMesh's kind, such as ``FULL``; ``EXTERNAL`` for tables outside the project.
        catalog: Catalog, where it is not the project's default one.
        schema: Schema of the table.
        table: The table's own name.
        cron: Cron expression or alias.
        cron_tz: IANA zone in which the cron is read; UTC when ``None``.
        depends_on: ``fqn`` of everything that the model reads.
        source: ``sql``, ``python``, ``seed`` or ``external``.
        code_version: SQLMesh's hash of what determines the model's data.
        metadata_hash: SQLMesh's hash of what does not, such as its cron and its audits.
        path: Source file, relative to the project.
        line: The line of that file on which the model begins, from 1.
        relation: The view or table that people read in the environment, with its catalog.
        columns: The model's columns, where SQLMesh knows them.
        columns_hash: Digest of all that they and the query are made from.
        sql: The rendered query, cut where it is long.
        grains: Columns or expressions that tell its rows apart.
        references: Columns or expressions by which others join it.
        ends: Whether SQLMesh evaluates nothing after some date.
    """

    fqn: str
    name: str
    kind: str
    catalog: str | None
    schema: str
    table: str
    cron: str
    cron_tz: str | None
    depends_on: tuple[str, ...]
    source: str
    dialect: str
    description: str | None
    owner: str | None
    tags: tuple[str, ...]
    signals: tuple[str, ...]
    code_version: str | None
    metadata_hash: str | None
    path: str | None
    audits: tuple[ManifestAudit, ...]
    line: int = 1
    relation: str = ""
    columns: tuple[ManifestColumn, ...] = ()
    columns_hash: str = ""
    sql: str | None = None
    grains: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    ends: bool = False

    @property
    def is_external(self) -> bool:
        """Whether the table is made outside SQLMesh."""
        return self.kind == "EXTERNAL"

    @property
    def is_executed(self) -> bool:
        """Whether SQLMesh ever evaluates it. It evaluates neither external nor embedded models."""
        return self.kind not in {"EXTERNAL", "EMBEDDED"}


@dataclass(frozen=True, slots=True)
class ManifestStandaloneAudit:
    """An audit that belongs to no model and reads one or more of them."""

    fqn: str
    name: str
    cron: str
    cron_tz: str | None
    depends_on: tuple[str, ...]
    description: str | None
    path: str | None


@dataclass(frozen=True)
class Manifest:
    """Everything that definitions need to know of a SQLMesh project.

    Attributes:
        fingerprint: Digest of all that it was made from.
        gateway: Name of the gateway that it was made for.
        engine: SQLMesh's name of the gateway's connection type, such as ``duckdb``.
        state_engine: The engine of the connection to SQLMesh's state.
        models: In topological order, external ones included.
        standalone_audits: Audits without a model of their own.
        plan_id: The plan of the environment that it was made from; ``None`` where it was made
            from the project's files.
    """

    fingerprint: str
    gateway: str
    engine: str
    state_engine: str
    models: tuple[ManifestModel, ...]
    standalone_audits: tuple[ManifestStandaloneAudit, ...]
    plan_id: str | None

    @property
    def has_lease(self) -> bool:
        """Whether runs of the same models wait for each other, whoever launches them."""
        return self.state_engine in LEASED_ENGINES

    @cached_property
    def by_fqn(self) -> Mapping[str, ManifestModel]:
        """The models by their fully qualified name."""
        return {model.fqn: model for model in self.models}

    @cached_property
    def executed(self) -> tuple[ManifestModel, ...]:
        """The models that SQLMesh evaluates: those that become materializable assets."""
        return tuple(model for model in self.models if model.is_executed)

    @property
    def decided(self) -> tuple[ManifestModel | ManifestStandaloneAudit, ...]:
        """The models and standalone audits on which every tick decides."""
        return (*self.executed, *self.standalone_audits)

    def to_json(self) -> str:
        """The file's content."""
        content = {"format": FORMAT, **dataclasses.asdict(self)}
        for model in content["models"]:
            # Most of the file; without their names they take half the space.
            model["columns"] = [tuple(column.values()) for column in model["columns"]]
        return json.dumps(content, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Reads :meth:`to_json`.

        Raises:
            ValueError: The text is damaged or was written by another version of this package.
        """
        content = json.loads(text)
        if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
            raise ValueError(f"not a manifest of format {FORMAT}")
        try:
            return cls(
                **{
                    **content,
                    "models": tuple(_model(**model) for model in content["models"]),
                    "standalone_audits": tuple(
                        ManifestStandaloneAudit(
                            **{**audit, "depends_on": tuple(audit["depends_on"])}
                        )
                        for audit in content["standalone_audits"]
                    ),
                }
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"a manifest with a missing or unknown field: {error}") from error


def _model(**fields: Any) -> ManifestModel:
    names = ("depends_on", "tags", "signals", "grains", "references")
    lists = {name: tuple(fields[name]) for name in names}
    columns = tuple(
        ManifestColumn(name, type_, description, tuple((fqn, column) for fqn, column in reads))
        for name, type_, description, reads in fields["columns"]
    )
    audits = tuple(ManifestAudit(**audit) for audit in fields["audits"])
    return ManifestModel(**{**fields, **lists, "audits": audits, "columns": columns})


def manifest_path(settings: AutomationSettings) -> Path:
    """Where the manifest of these settings is kept."""
    name = f"manifest-{settings.environment}-{settings.gateway or 'default'}.json"
    return settings.manifest or settings.project / ".cache" / "dagster_sqlmesh_automation" / name


def prepare(
    settings: AutomationSettings,
    build: Callable[[AutomationSettings, str], Manifest],
    *,
    force: bool = False,
) -> Manifest:
    """Returns the manifest, read from its file where that still holds, built anew where not.

    Args:
        settings: The project, gateway and file.
        build: Loads the SQLMesh project; called with the settings and the fingerprint.
        force: Build in any case.

    Raises:
        ConfigurationError: The project cannot be loaded.
        Unavailable: The database that tells the default catalog cannot be opened.
    """
    path = manifest_path(settings)
    fingerprint = project_fingerprint(settings, path)
    if not force and (reusable := read(path)) and reusable.fingerprint == fingerprint:
        return reusable
    manifest = build(settings, fingerprint)
    write(settings, manifest)
    return manifest


def read(path: Path) -> Manifest | None:
    """What the file has, if it is there and can be used."""
    try:
        return Manifest.from_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        logger.warning("The manifest %s cannot be used and is built anew: %s", path, error)
        return None


def remembered(path: Path) -> Mapping[str, ManifestModel]:
    """The models of the file by :attr:`ManifestModel.columns_hash`; none where it is of no use."""
    try:
        manifest = Manifest.from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # :func:`read` has told
    return {model.columns_hash: model for model in manifest.models if model.columns_hash}


def write(settings: AutomationSettings, manifest: Manifest) -> None:
    """Writes all or nothing: a reader sees the old file or the new one."""
    path = manifest_path(settings)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(manifest.to_json())
        Path(temporary).replace(path)
    except OSError as error:
        # Definitions still load from memory; only the next process pays again.
        logger.warning(
            "The manifest cannot be kept at %s (%s). Every process will load the SQLMesh project; "
            "set %s to a file that can be written.",
            path,
            error,
            settings.variable("MANIFEST"),
        )
        if temporary:
            Path(temporary).unlink(missing_ok=True)
