"""Which models are up- and downstream of others, as far as one waits for the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any, TypeVar

from ..facts.facts import Node
from .reasons import Reason, read_by_run

_V = TypeVar("_V", bound=Any)


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


def upstream_of_runs(nodes: Sequence[Node], in_progress: Mapping[str, str]) -> dict[str, Reason]:
    """Returns why what is upstream of models that a run evaluates is held, by ``fqn``.

    Evaluating it would change it under them.
    """
    reasons: dict[str, Reason] = {}
    if not in_progress:
        return reasons
    for node in reversed(nodes):
        run_id = in_progress.get(node.fqn)
        reason = read_by_run(node.name, run_id) if run_id else reasons.get(node.fqn)
        if reason:
            for parent in node.parents:
                reasons.setdefault(parent, reason)
    return reasons


def runs_around(nodes: Sequence[Node], in_progress: Mapping[str, str]) -> dict[str, set[str]]:
    """Returns the ids of the runs that each model waits for, by ``fqn``.

    Those are the runs that evaluate what it waits for upstream, or what reads it.

    Args:
        nodes: All models and standalone audits, in topological order.
        in_progress: Id of the run that covers a model, by ``fqn``.
    """
    own = {fqn: {run_id} for fqn, run_id in in_progress.items()}
    upstream: dict[str, set[str]] = {}
    for node in nodes:
        parents = node.parents if node.policy.waits_for_upstream else ()
        upstream[node.fqn] = set().union(
            *(upstream.get(fqn, set()) | own.get(fqn, set()) for fqn in parents)
        )
    downstream: dict[str, set[str]] = {node.fqn: set() for node in nodes}
    for node in reversed(nodes):
        for fqn in node.parents:
            downstream[fqn] |= downstream[node.fqn] | own.get(node.fqn, set())
    return {node.fqn: upstream[node.fqn] | downstream[node.fqn] for node in nodes}


def nearest_upstream(nodes: Sequence[Node], models: Set[str]) -> dict[str, tuple[str, ...]]:
    """Returns which of some models are nearest upstream of each model that waits for it.

    Args:
        nodes: All models and standalone audits, in topological order.
        models: ``fqn`` of those that count.
    """
    nearest: dict[str, tuple[str, ...]] = {}
    for node in nodes:
        parents = node.parents if node.policy.waits_for_upstream else ()
        through = (((fqn,) if fqn in models else nearest[fqn]) for fqn in parents)
        nearest[node.fqn] = tuple(dict.fromkeys(fqn for fqns in through for fqn in fqns))
    return nearest


def least_downstream(nodes: Sequence[Node], values: Mapping[str, _V]) -> dict[str, _V]:
    """Returns the least value of what waits for each model, however far, by ``fqn``.

    Args:
        nodes: All models and standalone audits, in topological order.
        values: The values of some models, by ``fqn``.
    """
    least: dict[str, _V] = {}
    for node in reversed(nodes):
        if node.policy.waits_for_upstream:
            for fqn in node.parents:
                _lower(least, fqn, node.fqn, values)
    return least


def least_upstream(nodes: Sequence[Node], values: Mapping[str, _V]) -> dict[str, _V]:
    """Returns the least value of what each model reads, however far, by ``fqn``.

    Args:
        nodes: All models and standalone audits, in topological order.
        values: The values of some models, by ``fqn``.
    """
    least: dict[str, _V] = {}
    for node in nodes:
        for fqn in node.parents:
            _lower(least, node.fqn, fqn, values)
    return least


def _lower(least: dict[str, _V], fqn: str, related: str, values: Mapping[str, _V]) -> None:
    """Lowers a model's value to that of a related one, or of what is beyond that."""
    candidates = [
        known[key]
        for known, key in ((least, fqn), (least, related), (values, related))
        if key in known
    ]
    if candidates:
        least[fqn] = min(candidates)
