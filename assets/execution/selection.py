"""What a run is to evaluate, and which of it has to wait for steps of other kinds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from typing import Any

from ..dagster_internals import run_assets, run_checks, upstream_ops
from ..definitions.audits import runs_alone
from ..definitions.specs import AssetIndex
from ..ledger.outcome import audited_model, audits_of, is_alone


@dataclass(frozen=True)
class Selection:
    """The models of a run.

    Attributes:
        models: ``fqn`` of all models and standalone audits that the run is to evaluate, and
            :func:`.audits_of` those of which it evaluates audits alone.
        alone: The checks of audits that are evaluated alone, by those names and by the model's use
            of each.
        awaited: The steps that are not SQLMesh's and that Dagster runs before a model's, directly
            or not, by ``fqn``; left out where there are none. They make what the model reads, or
            they are blocking checks of what it reads.
        ahead: What the steps of the models after a model's own await, together with it, by
            ``fqn``; left out where there is nothing.
        places: Of each model's step, by ``fqn``: whether no step of the run follows it, and how
            many steps are before it on the longest way there.
    """

    models: Set[str]
    alone: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    awaited: Mapping[str, Set[str]] = field(default_factory=dict)
    ahead: Mapping[str, Set[str]] = field(default_factory=dict)
    places: Mapping[str, tuple[bool, int]] = field(default_factory=dict)

    def ready(self, model: str) -> frozenset[str]:
        """What can be evaluated once the step of a model begins.

        Dagster begins it when all that it awaits has succeeded, so that whatever awaits no more
        than this model can be evaluated with it.
        """
        available = self.awaited.get(model, frozenset())
        return frozenset(
            other for other in self.models if self.awaited.get(other, frozenset()) <= available
        )

    def closing(self, models: Set[str]) -> str | None:
        """The model of an execution whose step answers for the execution's end.

        It may fail and hold up nothing: no other model's step follows it, and no step at all where
        there is such a model. All processes of a run find the same one.

        Args:
            models: What the execution deals with.

        Returns:
            Its ``fqn``; ``None`` where every one of them has models after it that wait for other
            steps. Their execution comes to its end later, and its end counts.
        """
        nothing: frozenset[str] = frozenset()
        available = nothing.union(*(self.awaited.get(model, nothing) for model in models))
        last = (model for model in models if self.ahead.get(model, nothing) <= available)
        return max(last, key=lambda model: (self.places[model], model), default=None)


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
    parts = _parts(context, index, ops)
    models = frozenset(parts.values())
    upstream = {
        step: parents & ops for step, parents in upstream_ops(context).items() if step in ops
    }
    # In the order in which the run executes them: Dagster does not order two steps by way of one
    # that the run leaves out.
    order = list(TopologicalSorter(upstream).static_order())
    others = ops - parts.keys()
    awaited = _awaited(upstream, order, others)
    ahead, depths = _ahead(upstream, order, awaited, others), _depths(upstream, order)
    followed = {parent for parents in upstream.values() for parent in parents}
    steps_of = {parts[op]: op for op in order if op in parts}
    return Selection(
        models,
        alone=_alone(context, index, models),
        awaited={fqn: awaited[op] for fqn, op in steps_of.items() if awaited[op]},
        ahead={fqn: ahead[op] for fqn, op in steps_of.items() if ahead[op]},
        places={fqn: (op not in followed, depths[op]) for fqn, op in steps_of.items()},
    )


def _parts(context: Any, index: AssetIndex, ops: Set[str]) -> dict[str, str]:
    """What the run evaluates for each step that is SQLMesh's, by its op."""
    assets, checks = run_assets(context).selected_asset_keys, run_checks(context)
    parts = {}
    for op in ops & index.ops.keys():
        fqn = index.ops[op]
        if not runs_alone(index, fqn, assets, context.run.tags):
            parts[op] = fqn
        # The step of a model may be there for a check that is no audit.
        elif checks & {*index.checks.get(fqn, ()), *index.audits.get(fqn, {}).values()}:
            parts[op] = audits_of(fqn)
    return parts


def _alone(context: Any, index: AssetIndex, models: Set[str]) -> dict[str, dict[str, str]]:
    """The checks of audits that the run evaluates alone; a standalone audit is its one audit."""
    checks = run_checks(context)
    return {
        name: {
            use: key.name
            for use, key in index.audits.get(audited_model(name), {}).items()
            if key in checks
        }
        for name in models
        if is_alone(name)
    }


def _awaited(
    upstream: Mapping[str, Set[str]], order: Sequence[str], others: Set[str]
) -> dict[str, Set[str]]:
    """The steps of other kinds that Dagster runs before each step, directly or not.

    Args:
        upstream: The steps of the run that each step waits for.
        order: The steps, none before one that it waits for.
        others: The steps that are not SQLMesh's.
    """
    awaited_by: dict[str, Set[str]] = {}
    for op in order:
        parents = upstream[op]
        awaited_by[op] = frozenset(parents & others).union(
            *(awaited_by[parent] for parent in parents)
        )
    return awaited_by


def _ahead(
    upstream: Mapping[str, Set[str]],
    order: Sequence[str],
    awaited: Mapping[str, Set[str]],
    others: Set[str],
) -> dict[str, Set[str]]:
    """What each step of SQLMesh's and all of SQLMesh's after it await, by step."""
    ahead: dict[str, Set[str]] = {op: frozenset() for op in order}
    for op in reversed(order):
        if op not in others:
            ahead[op] |= awaited[op]
        for parent in upstream[op]:
            ahead[parent] |= ahead[op]
    return ahead


def _depths(upstream: Mapping[str, Set[str]], order: Sequence[str]) -> dict[str, int]:
    """How many steps are ahead of each step on the longest way to it."""
    depths: dict[str, int] = {}
    for op in order:
        depths[op] = max((depths[parent] + 1 for parent in upstream[op]), default=0)
    return depths
