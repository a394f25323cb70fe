"""Which models are upstream of those that a run evaluates, or that a tick requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

from ..facts.facts import Node


def upstream_of_requested(nodes: Sequence[Node], requested: Set[str]) -> frozenset[str]:
    """Returns what SQLMesh evaluates or audits before requested models, if it is due; by ``fqn``.

    Args:
        nodes: All models and standalone audits, in topological order.
        requested: What is requested; external models do not count.
    """
    wanted: set[str] = set()
    for node in reversed(nodes):
        is_requested = node.fqn in requested and not node.is_external
        if (is_requested or node.fqn in wanted) and node.policy.waits_for_upstream:
            wanted.update(node.parents)
    return frozenset(wanted)


def upstream_of_runs(nodes: Sequence[Node], in_progress: Mapping[str, str]) -> dict[str, str]:
    """Returns why what is upstream of models that a run evaluates is held, by ``fqn``.

    Evaluating it would change it under them.
    """
    reasons: dict[str, str] = {}
    if not in_progress:
        return reasons
    for node in reversed(nodes):
        run_id = in_progress.get(node.fqn)
        reason = (
            f"run {run_id} is evaluating {node.name}, which reads it"
            if run_id
            else reasons.get(node.fqn)
        )
        if reason:
            for parent in node.parents:
                reasons.setdefault(parent, reason)
    return reasons
