"""What SQLMesh knows of models, as the manifest keeps it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...config.settings import AutomationSettings
from ..naming import audit_use, check_names
from ..sqlmesh_internals import source_file, state_connection
from .columns import Columns, source_line
from .fingerprint import made_for
from .manifest import (
    Manifest,
    ManifestAudit,
    ManifestModel,
    ManifestStandaloneAudit,
)
from .manifest_file import remembered

if TYPE_CHECKING:
    from sqlmesh.core.audit import StandaloneAudit
    from sqlmesh.core.context import Context
    from sqlmesh.core.environment import EnvironmentNamingInfo
    from sqlmesh.core.model import Model


def manifest_of(
    context: Context,
    settings: AutomationSettings,
    fingerprint: str,
    models: Mapping[str, Model],
    audits: Iterable[StandaloneAudit],
    plan_id: str | None = None,
) -> Manifest:
    """The manifest of some models and standalone audits, wherever they come from.

    Args:
        context: Open; for its gateway and catalogs.
        settings: The project.
        fingerprint: The fingerprint of what the manifest is made from.
        models: The models, by ``fqn``.
        audits: The standalone audits.
        plan_id: The plan that they were deployed with, where they come from an environment.
    """
    from sqlmesh.core.environment import EnvironmentNamingInfo
    from sqlmesh.utils.dag import DAG

    from .spans import starts_of

    default_catalog = context.default_catalog
    # Snapshots keep, if anything, where a file was on the machine that planned them.
    project = settings.projects.main if plan_id is None else None
    naming = EnvironmentNamingInfo.from_environment_catalog_mapping(
        context.environment_catalog_mapping,
        name=settings.environment,
        suffix_target=context.config.environment_suffix_target,
    )
    columns = Columns(remembered(settings), default_catalog, settings)
    graph: DAG[str] = DAG()
    for fqn, model in models.items():
        graph.add(fqn, model.depends_on)
    starts = starts_of(models, graph.sorted)
    return Manifest(
        fingerprint=fingerprint,
        gateway=context.selected_gateway,
        engine=context.connection_config.type_,
        state_engine=state_connection(context).type_,
        models=tuple(
            _external(fqn, default_catalog)
            if fqn not in models
            else _model(models[fqn], project, default_catalog, naming, columns, starts[fqn])
            for fqn in graph.sorted
        ),
        standalone_audits=tuple(_standalone_audit(audit, project) for audit in audits),
        plan_id=plan_id,
        made_for=made_for(settings),
    )


def _standalone_audit(audit: StandaloneAudit, project: Path | None) -> ManifestStandaloneAudit:
    return ManifestStandaloneAudit(
        fqn=audit.fqn,
        name=audit.name,
        cron=audit.cron,
        cron_tz=str(audit.cron_tz) if audit.cron_tz else None,
        depends_on=tuple(sorted(audit.depends_on)),
        description=audit.description,
        path=_relative(source_file(audit), project),
    )


def _model(
    model: Model,
    project: Path | None,
    default_catalog: str | None,
    naming: EnvironmentNamingInfo,
    columns: Columns,
    start: datetime | None,
) -> ManifestModel:
    from .spans import exclusive_end

    end = exclusive_end(model)
    catalog = model.catalog
    column_facts = columns.of(model)
    return ManifestModel(
        fqn=model.fqn,
        name=model.name,
        kind=model.kind.name.value,
        catalog=catalog if catalog and catalog != default_catalog else None,
        schema=model.schema_name,
        table=model.view_name,
        cron=model.cron,
        cron_tz=str(model.cron_tz) if model.cron_tz else None,
        depends_on=tuple(sorted((model.depends_on or set()) - {model.fqn})),
        source=model.source_type,
        dialect=model.dialect,
        description=model.description,
        owner=model.owner,
        tags=tuple(model.tags),
        signals=tuple(name for name, _ in model.signals),
        code_version=None if model.kind.is_external else model.data_hash,
        metadata_hash=None if model.kind.is_external else model.metadata_hash,
        path=_relative(source_file(model), project),
        audits=_audits(model),
        line=source_line(model) if project is not None else 1,
        relation=_relation(model, naming),
        columns=column_facts.columns,
        columns_hash=column_facts.hash,
        sql=column_facts.sql,
        grains=tuple(grain.sql(dialect=model.dialect) for grain in model.grains),
        references=tuple(reference.sql(dialect=model.dialect) for reference in model.references),
        start=start.isoformat() if start is not None else None,
        end=end.isoformat() if end is not None else None,
    )


def _relation(model: Model, naming: EnvironmentNamingInfo) -> str:
    from sqlmesh.core.snapshot.definition import QualifiedViewName

    table = model.fully_qualified_table
    if model.kind.is_external:
        return ".".join(part.name for part in table.parts)
    view = QualifiedViewName(
        catalog=table.catalog or None, schema_name=table.db or None, table=table.name
    ).table_for_environment(naming, dialect=model.dialect)
    return ".".join(part.name for part in view.parts)


def _audits(model: Model) -> tuple[ManifestAudit, ...]:
    if model.kind.is_embedded:
        return ()
    uses: dict[str, tuple[str, Mapping[str, str], bool]] = {}
    for audit, arguments in model.audits_with_args:
        if audit.skip:
            continue
        # As SnapshotEvaluator._audit: the model's argument wins over the audit's own setting.
        argument = arguments.get("blocking")
        blocking = audit.blocking if argument is None else argument.sql().upper() == "TRUE"
        args = audit_args(arguments)
        use = audit_use(audit.name, args)
        if use in uses:  # the same use twice is one check
            blocking = blocking or uses[use][2]
        uses[use] = (audit.name, args, blocking)
    names = check_names((name, args) for name, args, _ in uses.values())
    return tuple(ManifestAudit(names[use], *each) for use, each in uses.items())


def audit_args(args: dict[str, Any]) -> dict[str, str]:
    """An audit's arguments as SQL, as the manifest and a result both spell them."""
    return {
        key: value.sql() if hasattr(value, "sql") else str(value)
        for key, value in args.items()
        if key != "blocking"
    }


def _external(fqn: str, default_catalog: str | None) -> ManifestModel:
    """A table that models read and that no file of the project declares."""
    from sqlglot import exp

    table = exp.to_table(fqn)
    catalog = table.catalog if table.catalog != default_catalog else ""
    return ManifestModel(
        fqn=fqn,
        name=".".join(part for part in (catalog, table.db, table.name) if part),
        kind="EXTERNAL",
        catalog=catalog or None,
        schema=table.db,
        table=table.name,
        cron="@daily",
        cron_tz=None,
        depends_on=(),
        source="external",
        dialect="",
        description=None,
        owner=None,
        tags=(),
        signals=(),
        code_version=None,
        metadata_hash=None,
        path=None,
        audits=(),
        relation=".".join(part.name for part in table.parts),
    )


def _relative(path: Path | None, project: Path | None) -> str | None:
    if path is None or project is None:
        return None
    return str(path.relative_to(project)) if path.is_relative_to(project) else str(path)
