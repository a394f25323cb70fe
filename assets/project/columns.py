"""Columns of models, and the columns that each is made from."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...config.rules import DescriptionSql
from ...config.settings import AutomationSettings
from ..sqlmesh_internals import source_file
from .manifest import ManifestColumn, ManifestModel
from .withholding import Withholding

if TYPE_CHECKING:
    from sqlmesh.core.model import Model

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Known:
    """What is known of a model's columns and query.

    Attributes:
        columns: In the order of the model.
        hash: Digest of all that they are made from.
        sql: The query as it is shown; ``None`` where none is.
    """

    columns: tuple[ManifestColumn, ...]
    hash: str
    sql: str | None


class Columns:
    """Reads columns, lineage and queries of models, of each that has changed.

    To follow columns through a query takes SQLMesh milliseconds each.

    Args:
        remembered: Models that were read before, by :attr:`ManifestModel.columns_hash`.
        default_catalog: The project's.
        settings: Which query is shown, and how much of it.
    """

    def __init__(
        self,
        remembered: Mapping[str, ManifestModel],
        default_catalog: str | None,
        settings: AutomationSettings,
    ) -> None:
        self._remembered, self._default_catalog = remembered, default_catalog
        self._shown, self._longest_sql = (
            settings.description_sql,
            settings.description_sql_characters,
        )
        self._withholding = Withholding(settings)

    def of(self, model: Model) -> Known:
        """What is known of a model."""
        digest = self._digest(model)
        if (remembered := self._remembered.get(digest)) is not None:
            return Known(remembered.columns, digest, remembered.sql)
        types, descriptions = model.columns_to_types or {}, model.column_descriptions or {}
        reads = self._reads(model, list(types)) if model.is_sql else {}
        return Known(
            tuple(
                ManifestColumn(
                    name,
                    kind.sql(dialect=model.dialect),
                    descriptions.get(name),
                    reads.get(name, ()),
                )
                for name, kind in types.items()
            ),
            digest,
            self._sql(model),
        )

    def _digest(self, model: Model) -> str:
        parts = (
            model.fqn,
            model.data_hash if not model.kind.is_external else "",
            # Comments on columns are no part of the data.
            repr(sorted((model.column_descriptions or {}).items())),
            repr(model.columns_to_types_),
            # What the models that it reads have: with that a * changes.
            repr(model.mapping_schema) if model.is_sql else "",
            str(self._default_catalog),
            self._shown,
            str(self._longest_sql),
        )
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    def _reads(self, model: Model, columns: list[str]) -> Mapping[str, tuple[tuple[str, str], ...]]:
        from sqlglot.errors import SqlglotError
        from sqlmesh.core import lineage
        from sqlmesh.utils.errors import SQLMeshError

        try:
            return {name: self._sources(model, name) for name in columns}
        except (SqlglotError, SQLMeshError, ValueError) as error:
            reason = self._withholding.text(str(error))
            logger.info("%s has no column lineage: %s", model.name, reason)
            return {}
        finally:
            # SQLMesh keeps every query that it has followed.
            lineage.CACHE.pop(model.name, None)

    def _sources(self, model: Model, name: str) -> tuple[tuple[str, str], ...]:
        from sqlglot import exp
        from sqlmesh.core.dialect import normalize_model_name
        from sqlmesh.core.lineage import lineage

        sources = set()
        # A name in quotes is taken as it is; SQLMesh has it normalized already.
        for node in lineage(exp.column(name, quoted=True), model, trim_selects=False).walk():
            table = None if node.downstream else node.expression.find(exp.Table)
            column = exp.to_column(node.name).name if table is not None else "*"
            if table is not None and column != "*":
                fqn = normalize_model_name(
                    table, default_catalog=self._default_catalog, dialect=model.dialect
                )
                sources.add((fqn, column))
        return tuple(sorted(sources))

    def _sql(self, model: Model) -> str | None:
        if not self._longest_sql or not model.is_sql:
            return None
        query = _query(model, self._shown)
        if query is None:
            return None
        text = self._withholding.sql(query) or ""
        longest = self._longest_sql
        return text if len(text) <= longest else f"{text[:longest]}\n-- (cut)"


def _query(model: Model, shown: DescriptionSql) -> str | None:
    """Returns a model's query as it is shown; ``None`` if it is not."""
    from sqlmesh.core.dialect import JinjaQuery

    if shown is DescriptionSql.NONE:
        return None
    query = model.query if shown is DescriptionSql.WRITTEN else model.render_query()  # type: ignore[union-attr]  # it is SQL
    if isinstance(query, JinjaQuery):
        return query.name.strip()
    return None if query is None else str(query.sql(dialect=model.dialect, pretty=True))


def source_line(model: Model) -> int:
    """The line of its file on which a model begins, from 1."""
    file = source_file(model)
    if file is None or not file.is_file():
        return 1
    if model.source_type == "python":
        pattern = rf"^\s*(async\s+)?def\s+{re.escape(model.entrypoint)}\b"
    elif model.kind.is_external:
        pattern = rf"^[\s-]*name:.*{re.escape(model.view_name)}"
    else:
        pattern = r"^\s*MODEL\s*\("
    text = file.read_text(encoding="utf-8", errors="replace")
    match = re.search(pattern, text, re.MULTILINE | re.IGNORECASE)
    if match is None:
        return 1
    begins = match.end() - len(match[0].lstrip())
    return text.count("\n", 0, begins) + 1
