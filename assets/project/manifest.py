"""The project's facts as JSON, so that definitions load without SQLMesh.

The text of a manifest has two parts: a header with the format and a digest, and the facts that
the digest covers. All of it together is one JSON object.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import NamedTuple

from pydantic import ConfigDict, TypeAdapter, ValidationError

from ..naming import audit_use

FORMAT = 7
"""Version of the layout. A manifest with another one is rebuilt."""

MARK = b'{"dagster_sqlmesh_automation_manifest":'
"""How every manifest begins, whatever its format. No other file does."""

LEASED_ENGINES = frozenset({"duckdb", "postgres", "gcp_postgres", "mysql"})
"""SQLMesh's names of the engines on which a state gives runs a lease: DuckDB, whose file one
process opens at a time, and those with locks that belong to a session."""

_HEADER = re.compile(re.escape(MARK) + rb'(\d+),"sha256":"([0-9a-f]{64})","facts":')
# What is read back has exactly these fields, each of exactly its type.
_AS_WRITTEN = ConfigDict(extra="forbid", strict=True)


@dataclass(frozen=True, slots=True)
class ManifestAudit:
    """One audit of one model.

    Attributes:
        check: Name of its asset check, unique within the model.
        audit: The audit's own name.
        args: The audit's arguments as SQL.
        blocking: Whether SQLMesh stops at this model when the audit fails.
    """

    __pydantic_config__ = _AS_WRITTEN

    check: str
    audit: str
    args: Mapping[str, str]
    blocking: bool

    @property
    def use(self) -> str:
        """Identifies it as SQLMesh's results do, whatever its check is called."""
        return audit_use(self.audit, self.args)


class ManifestColumn(NamedTuple):
    """One column of a model.

    Columns are most of a manifest. As arrays, without the names of these fields, they take half
    the space.

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
        sql: The query as the settings show it, cut where it is long.
        grains: Columns or expressions that tell its rows apart.
        references: Columns or expressions by which others join it.
        start: The first moment that SQLMesh evaluates, in ISO 8601, by its own start or that of
            what it reads; ``None`` where there is none, or it moves with the clock.
        end: The first moment that SQLMesh no longer evaluates, likewise.
    """

    __pydantic_config__ = _AS_WRITTEN

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
    start: str | None = None
    end: str | None = None

    @property
    def is_external(self) -> bool:
        """Whether the table is made outside SQLMesh."""
        return self.kind == "EXTERNAL"

    @property
    def is_executed(self) -> bool:
        """Whether SQLMesh ever evaluates it. It evaluates neither external nor embedded models."""
        return self.kind not in {"EXTERNAL", "EMBEDDED"}

    @property
    def is_only_audited(self) -> bool:
        """Whether SQLMesh evaluates its audits and nothing else, as of an external model's."""
        return self.is_external and bool(self.audits)


@dataclass(frozen=True, slots=True)
class ManifestStandaloneAudit:
    """An audit that belongs to no model and reads one or more of them."""

    __pydantic_config__ = _AS_WRITTEN

    fqn: str
    name: str
    cron: str
    cron_tz: str | None
    depends_on: tuple[str, ...]
    description: str | None
    path: str | None

    @property
    def is_external(self) -> bool:
        """Whether it is an external model."""
        return False


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
        beside_plan: The plan of ``prod`` from which models of other projects come; ``None`` where
            the project has no name in SQLMesh, so that there are none.
        made_for: The project, gateway, environment and source that it was made for.
        outdated: Why it is of an earlier load; ``None`` where it is current. It is not kept in
            the file.
    """

    __pydantic_config__ = _AS_WRITTEN

    fingerprint: str
    gateway: str
    engine: str
    state_engine: str
    models: tuple[ManifestModel, ...]
    standalone_audits: tuple[ManifestStandaloneAudit, ...]
    plan_id: str | None
    beside_plan: str | None = None
    made_for: str = ""
    outdated: str | None = None

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

    @cached_property
    def only_audited(self) -> tuple[ManifestModel, ...]:
        """The external models with audits."""
        return tuple(model for model in self.models if model.is_only_audited)

    @property
    def told(self) -> tuple[ManifestModel, ...]:
        """The models of which ticks tell what becomes: those with an outcome."""
        return (*self.only_audited, *self.executed)

    @property
    def decided(self) -> tuple[ManifestModel | ManifestStandaloneAudit, ...]:
        """What every tick decides on, in topological order."""
        return (*self.told, *self.standalone_audits)

    def to_json(self) -> str:
        """Returns the text that :meth:`from_json` reads."""
        facts = dataclasses.asdict(self) | {"outdated": None}
        return sealed(json.dumps(facts, separators=(",", ":")))

    @classmethod
    def from_json(cls, text: bytes) -> Manifest:
        """Reads :meth:`to_json`.

        Raises:
            ValueError: The text is damaged, was altered, or was written by another version of
                this package.
        """
        header = _HEADER.match(text)
        if header is None or int(header[1]) != FORMAT:
            raise ValueError(f"it is not a manifest of format {FORMAT}")
        facts = text[header.end() : -1]
        if text[-1:] != b"}" or hashlib.sha256(facts).hexdigest() != header[2].decode():
            raise ValueError("its content is not what was written")
        try:
            manifest = _adapter().validate_json(facts)
        except ValidationError as error:
            problem = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(map(str, problem["loc"])) or "its content"
            raise ValueError(f"{place}: {problem['msg']}") from error
        _check_order(manifest.models)
        return manifest


@cache
def _adapter() -> TypeAdapter[Manifest]:
    return TypeAdapter(Manifest)


def _check_order(models: tuple[ManifestModel, ...]) -> None:
    """Checks that every model stands once, behind all that it reads.

    Raises:
        ValueError: One does not.
    """
    names: set[str] = set()
    for model in models:
        if model.fqn in names:
            raise ValueError(f"the model {model.fqn} stands there twice")
        if missing := sorted(set(model.depends_on) - names):
            raise ValueError(f"the model {model.fqn} reads {missing[0]}, which is not before it")
        names.add(model.fqn)


def sealed(facts: str) -> str:
    """Returns the facts, which are JSON, behind the header that covers them."""
    digest = hashlib.sha256(facts.encode()).hexdigest()
    return f'{MARK.decode()}{FORMAT},"sha256":"{digest}","facts":{facts}}}'
