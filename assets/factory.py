"""One Dagster asset definition for each SQLMesh model.

The steps' functions have no annotations: Dagster resolves those of each one eight times over,
which is a third of the time that a thousand definitions take to load.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

import dagster as dg

from ..config.settings import AutomationSettings
from .definitions.audits import AuditSpecs, audit_specs
from .definitions.specs import (
    Blueprint,
    Conditions,
    ModelSpecs,
    model_specs,
    unexecuted_specs,
)
from .execution.alone import report_audits
from .execution.executor import EXECUTION_TAG
from .execution.outputs import outputs_without_result
from .execution.report import (
    fail_with_end,
    failure_text,
    outcome_metadata,
    report,
    selected_results,
)
from .execution.shared import SharedExecution

PRIORITY_TAG = "dagster/priority"

AssetLike = dg.AssetsDefinition | dg.AssetSpec | dg.AssetChecksDefinition


def build_assets(blueprint: Blueprint, conditions: Conditions) -> list[AssetLike]:
    """The assets and checks of a SQLMesh environment.

    They ask for the shared execution as a resource under :func:`execution_key`.

    Args:
        blueprint: What they are made from.
        conditions: The default automation condition of each.
    """
    resource = execution_key(blueprint.settings)
    tags = {EXECUTION_TAG: blueprint.manifest.engine}
    return [
        *(_model_asset(specs, resource, tags) for specs in model_specs(blueprint, conditions)),
        *(_audit_step(specs, resource, tags) for specs in audit_specs(blueprint, conditions)),
        *unexecuted_specs(blueprint),
    ]


def execution_key(settings: AutomationSettings) -> str:
    """Name of the resource through which the steps of an environment share one execution."""
    return f"{settings.id}_execution"


def _model_asset(specs: ModelSpecs, resource: str, tags: Mapping[str, str]) -> dg.AssetsDefinition:
    parents = frozenset(dep.asset_key for dep in specs.asset.deps)

    # A multi_asset of one asset: unlike @asset, it may end without a materialization; and without
    # the results of its checks, provided that it can be subset.
    @dg.multi_asset(
        name=specs.op,
        specs=[specs.asset],
        check_specs=specs.checks,
        can_subset=True,
        required_resource_keys={resource},
        retry_policy=specs.retry_policy,
        op_tags={**tags, **_priority(specs)},
    )
    def model_step(context):  # type: ignore[no-untyped-def]
        execution: SharedExecution = getattr(context.resources, resource)
        if not context.selected_asset_keys:
            yield from report_audits(context, execution, specs.model.fqn, specs.op)
            return
        outcome = execution.outcome(
            specs.model.fqn,
            execution.selection(context),
            step=specs.op,
            retries=context.retry_number,
        )
        _forget_versions(context, execution.evaluated_unselected(parents))
        yield from report(context, specs.asset.key, outcome, execution.index.versions)
        fail_with_end(execution.end_error(specs.model.fqn), outcome)

    return model_step


def _priority(specs: ModelSpecs) -> Mapping[str, str]:
    return {} if specs.priority is None else {PRIORITY_TAG: str(specs.priority)}


def _audit_step(
    specs: AuditSpecs, resource: str, tags: Mapping[str, str]
) -> dg.AssetChecksDefinition:
    @dg.multi_asset_check(
        name=specs.op,
        specs=specs.checks,
        # A person may run one model that the audit reads, and with it that model's checks.
        can_subset=True,
        required_resource_keys={resource},
        op_tags=tags,
    )
    def audit_step(context):  # type: ignore[no-untyped-def]
        execution: SharedExecution = getattr(context.resources, resource)
        selected = execution.selection(context)
        if specs.fqn not in selected.models:
            yield from report_audits(context, execution, specs.fqn, specs.op)
            return
        outcome = execution.outcome(specs.fqn, selected, step=specs.op)
        results = selected_results(context, execution.index.audited(outcome))
        yield from results.values()
        if not outcome.succeeded:
            raise dg.Failure(
                failure_text(outcome), metadata=outcome_metadata(outcome), allow_retries=False
            )
        yield from outputs_without_result(context, results)
        fail_with_end(execution.end_error(specs.fqn), outcome)

    return audit_step


def _forget_versions(context: Any, keys: Set[dg.AssetKey]) -> None:
    """Has Dagster look again at inputs that SQLMesh evaluated after the step had begun.

    Dagster reads the data versions of a step's inputs when it starts. The materialization would
    name the version before, and the asset would look out of step with its upstream at once.
    """
    step_context = context.op_execution_context.get_step_execution_context()
    for key in keys:
        step_context.wipe_input_asset_version_info(key)
