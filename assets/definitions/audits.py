"""The specs of checks that have steps of their own: SQLMesh evaluates audits and no model there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass

import dagster as dg

from ..ledger.run_tags import MODELS_TAG
from ..project.manifest import ManifestModel, ManifestStandaloneAudit
from .specs import AssetIndex, Blueprint, Conditions


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


def runs_alone(
    index: AssetIndex, fqn: str, assets: Set[dg.AssetKey], tags: Mapping[str, str]
) -> bool:
    """Whether a run evaluates audits and not what they belong to, as "Execute" on a check asks.

    A standalone audit, and an external model, is nothing but its audits. The automation's runs
    evaluate it as SQLMesh does, which records its intervals; so do runs that evaluate models too.

    Args:
        index: The definitions.
        fqn: A model or standalone audit of which the run selects checks.
        assets: The assets that the run selects.
        tags: The run's.
    """
    if fqn not in index.checks:
        return index.keys[fqn] not in assets
    theirs = {key.asset_key for key in index.checks[fqn]} | {*index.evaluated.values()}
    return MODELS_TAG not in tags and not theirs & assets
