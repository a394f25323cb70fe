"""What a run is to evaluate, and which of it has to wait for assets of other kinds."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from ..dagster_internals import run_assets
from ..definitions.specs import AssetIndex


@dataclass(frozen=True)
class Selection:
    """The models of a run.

    Attributes:
        models: ``fqn`` of all models and standalone audits that the run is to evaluate.
        awaited: What steps that are not SQLMesh's make in the run and a model reads, directly or
            not, by ``fqn``; left out where there is nothing.
    """

    models: Set[str]
    awaited: Mapping[str, Set[dg.AssetKey]] = field(default_factory=dict)

    def ready(self, model: str) -> frozenset[str]:
        """What can be evaluated once the step of a model begins.

        Dagster begins it when all that it awaits is there, so that whatever awaits no more than
        this model can be evaluated with it.
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
    materialized = {key for key in layer.selected_asset_keys if _op(layer, key) in ops}
    others = materialized - {index.keys[fqn] for fqn in models if fqn in index.keys}
    return Selection(models, _awaited(layer.asset_graph, materialized, others, models, index))


def _op(layer: Any, key: dg.AssetKey) -> str:
    """The op that makes an asset; for one of a graph, the graph."""
    return str(layer.get_op_output_handle(key).node_handle.path[0])


def _awaited(
    graph: Any,
    materialized: Set[dg.AssetKey],
    others: Set[dg.AssetKey],
    models: Set[str],
    index: AssetIndex,
) -> dict[str, Set[dg.AssetKey]]:
    if not others:
        return {}
    awaited_by: dict[dg.AssetKey, Set[dg.AssetKey]] = {}

    def through(keys: Set[dg.AssetKey]) -> Set[dg.AssetKey]:
        return keys & others | {
            parent_key for key in keys for parent_key in awaited_by.get(key, ())
        }

    for key in graph.toposorted_asset_keys:
        if key in materialized:
            awaited_by[key] = through(graph.get(key).parent_keys)
    read = {
        fqn: through({check.asset_key for check in index.checks[fqn]})
        if fqn in index.checks
        else awaited_by[index.keys[fqn]]
        for fqn in models
    }
    return {fqn: keys for fqn, keys in read.items() if keys}
