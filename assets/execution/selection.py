"""What a run is to evaluate, and which of it has to wait for steps of other kinds."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from typing import Any

from ..dagster_internals import run_assets, upstream_ops
from ..definitions.specs import AssetIndex


@dataclass(frozen=True)
class Selection:
    """The models of a run.

    Attributes:
        models: ``fqn`` of all models and standalone audits that the run is to evaluate.
        awaited: The steps that are not SQLMesh's and that Dagster runs before a model's, directly
            or not, by ``fqn``; left out where there are none. They make what the model reads, or
            they are blocking checks of what it reads.
    """

    models: Set[str]
    awaited: Mapping[str, Set[str]] = field(default_factory=dict)

    def ready(self, model: str) -> frozenset[str]:
        """What can be evaluated once the step of a model begins.

        Dagster begins it when all that it awaits has succeeded, so that whatever awaits no more
        than this model can be evaluated with it.
        """
        available = self.awaited.get(model, frozenset())
        return frozenset(
            other for other in self.models if self.awaited.get(other, frozenset()) <= available
        )


def selection(context: Any, index: AssetIndex) -> Selection:
    """What the run of a step is to evaluate.

    ``context.selected_asset_keys`` is the step's own. The job is the subset that the run selects,
    and a re-execution names the steps that it repeats.

    Args:
        context: The step's context.
        index: The definitions that the run's steps come from.
    """
    job = context.op_execution_context.job_def
    ops = {node.name for node in job.nodes}
    if steps := context.run.step_keys_to_execute:
        ops &= {step.partition(".")[0] for step in steps}
    layer = run_assets(context)
    models = frozenset(
        fqn
        for op in ops
        if (fqn := index.ops.get(op))
        and (fqn in index.checks or index.keys[fqn] in layer.selected_asset_keys)
    )
    return Selection(models, _awaited(upstream_ops(context), ops, models, index))


def _awaited(
    upstream: Mapping[str, Set[str]], ops: Set[str], models: Set[str], index: AssetIndex
) -> dict[str, Set[str]]:
    """The steps of other kinds that Dagster runs before the step of each model.

    Args:
        upstream: The ops that each op of the job waits for.
        ops: The ops that the run executes. Dagster does not order two of them by way of one that
            it leaves out.
        models: ``fqn`` of the models and standalone audits of the run.
        index: The definitions that the run's steps come from.
    """
    others = {op for op in ops if index.ops.get(op) not in models}
    awaited_by: dict[str, frozenset[str]] = {}
    for op in TopologicalSorter({op: upstream[op] & ops for op in ops}).static_order():
        parents = upstream[op] & ops
        awaited_by[op] = frozenset(parents & others).union(
            *(awaited_by[parent] for parent in parents)
        )
    return {
        fqn: steps
        for op, steps in awaited_by.items()
        if steps and (fqn := index.ops.get(op)) is not None and fqn in models
    }
