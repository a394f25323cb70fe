"""The specs of checks that have steps of their own: SQLMesh evaluates audits and no model there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import dagster as dg

from ..project.manifest import ManifestModel, ManifestStandaloneAudit
from .specs import Blueprint, Conditions


@dataclass(frozen=True)
class AuditSpecs:
    """A standalone audit or an external model with audits: one step.

    Attributes:
        fqn: SQLMesh's name of it.
        op: Name of the op.
        checks: A check on each model that a standalone audit reads, or for each audit of an
            external model.
    """

    fqn: str
    op: str
    checks: tuple[dg.AssetCheckSpec, ...]


def audit_specs(blueprint: Blueprint, conditions: Conditions) -> Iterator[AuditSpecs]:
    """Yields the specs of external models with audits, and of standalone audits."""
    index = blueprint.index
    for model in blueprint.manifest.only_audited:
        checks = _external_checks(blueprint, model, conditions)
        yield AuditSpecs(model.fqn, index.op_names[model.fqn], checks)
    for audit in blueprint.manifest.standalone_audits:
        if audit.fqn in index.checks:
            checks = _standalone_checks(blueprint, audit, conditions)
            yield AuditSpecs(audit.fqn, index.op_names[audit.fqn], checks)


def _external_checks(
    blueprint: Blueprint, model: ManifestModel, conditions: Conditions
) -> tuple[dg.AssetCheckSpec, ...]:
    keys = blueprint.index.audits[model.fqn]
    return tuple(
        dg.AssetCheckSpec(
            name=keys[audit.use].name,
            asset=keys[audit.use].asset_key,
            description=blueprint.translator.get_check_description(model, audit),
            blocking=audit.blocking,
            automation_condition=conditions(model),
        )
        for audit in model.audits
    )


def _standalone_checks(
    blueprint: Blueprint, audit: ManifestStandaloneAudit, conditions: Conditions
) -> tuple[dg.AssetCheckSpec, ...]:
    keys = blueprint.index.checks[audit.fqn]
    return tuple(
        dg.AssetCheckSpec(
            name=key.name,
            asset=key.asset_key,
            additional_deps=[other.asset_key for other in keys if other != key],
            description=audit.description or f"Standalone SQLMesh audit {audit.name}",
            metadata={"sqlmesh/path": audit.path or ""},
            automation_condition=conditions(audit),
        )
        for key in keys
    )
