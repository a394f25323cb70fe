"""One Dagster asset definition for each SQLMesh model.

The steps' functions have no annotations: Dagster resolves those of each one eight times over,
which is a third of the time that a thousand definitions take to load.
"""

from __future__ import annotations

from dataclasses import replace

import dagster as dg

from ..config.settings import AutomationSettings
from .manifest import Manifest
from .outcome import Outcome
from .report import audit_result, report
from .shared import SharedExecution
from .specs import (
    AssetIndex,
    AuditSpecs,
    Conditions,
    ModelSpecs,
    audit_specs,
    model_specs,
    unexecuted_specs,
)
from .translator import SQLMeshTranslator

AssetLike = dg.AssetsDefinition | dg.AssetSpec | dg.AssetChecksDefinition


def build_assets(
    manifest: Manifest,
    settings: AutomationSettings,
    translator: SQLMeshTranslator,
    index: AssetIndex,
    conditions: Conditions,
) -> list[AssetLike]:
    """The assets and checks of a SQLMesh environment.

    They ask for the shared execution as a resource under :func:`execution_key`.

    Args:
        manifest: The project's facts.
        settings: The environment.
        translator: How models look as assets.
        index: Which asset or op stands for which model.
        conditions: The default automation condition of each.
    """
    resource = execution_key(settings)
    return [
        *(
            _model_asset(specs, resource)
            for specs in model_specs(manifest, settings, translator, index, conditions)
        ),
        *(_standalone_audit(specs, resource) for specs in audit_specs(manifest, index, conditions)),
        *unexecuted_specs(manifest, settings, translator, index),
    ]


def execution_key(settings: AutomationSettings) -> str:
    """Name of the resource through which the steps of an environment share one execution."""
    return f"{settings.id}_execution"


def _model_asset(specs: ModelSpecs, resource: str) -> dg.AssetsDefinition:
    # A multi_asset of one asset: unlike @asset, it may end without a materialization.
    checks = frozenset(check.name for check in specs.checks)

    @dg.multi_asset(
        name=specs.op,
        specs=[specs.asset],
        check_specs=specs.checks,
        required_resource_keys={resource},
    )
    def model_step(context):  # type: ignore[no-untyped-def]
        yield from report(context, _outcome(context, resource, specs.model.fqn), checks)

    return model_step


def _standalone_audit(specs: AuditSpecs, resource: str) -> dg.AssetChecksDefinition:
    @dg.multi_asset_check(
        name=specs.op,
        specs=specs.checks,
        # A person may run one model that the audit reads, and with it that model's checks.
        can_subset=True,
        required_resource_keys={resource},
    )
    def audit_step(context):  # type: ignore[no-untyped-def]
        outcome = _outcome(context, resource, specs.audit.fqn)
        if not outcome.succeeded:
            raise dg.Failure(outcome.summary(), allow_retries=False)
        for check in sorted(context.selected_asset_check_keys):
            for audit in outcome.audits:
                yield audit_result(check.asset_key, replace(audit, check=check.name))

    return audit_step


def _outcome(
    context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext,
    resource: str,
    fqn: str,
) -> Outcome:
    execution: SharedExecution = getattr(context.resources, resource)
    return execution.outcome(fqn, _ops_in_run(context.op_execution_context))


def _ops_in_run(context: dg.OpExecutionContext) -> frozenset[str]:
    """Names of the ops that this run executes: its real selection.

    ``selected_asset_keys`` is the step's own. The job is the subset that the run selects; a
    re-execution names the steps that it repeats.
    """
    ops = {node.name for node in context.job_def.nodes}
    if steps := context.run.step_keys_to_execute:
        ops &= set(steps)
    return frozenset(ops)
