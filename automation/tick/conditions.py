"""A model's automation condition is a tree that looks a tick's decision up.

The tree holds no logic of its own. It shows a person, in Dagster's UI, what was decided and why;
``sqlmesh-automation explain`` prints the same tree.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import and_
from typing import Any

import dagster as dg
from dagster import AutomationContext, AutomationResult

from ...assets.definitions.policy import Policy
from ...assets.project.manifest import ManifestModel, ManifestStandaloneAudit
from ...config.errors import NotASQLMeshAsset
from ..facts.facts import Node
from . import reasons
from .decision import Decision
from .fitting import label_of
from .plan import TickPlan
from .planner import LABEL, Planner
from .reasons import Reason


@dataclass(frozen=True, slots=True)
class Part:
    """Describes one part of a decision.

    Attributes:
        label: What has to hold for the model to be requested; it never changes from tick to tick.
        look: Returns whether it holds in a decision, and why if there is more to say.
        upstream: Whether it is about what the model reads.
        short: The label as far as Dagster's tree shows it; the label where not given.
    """

    label: str
    look: Callable[[Decision], tuple[bool, Reason | None]]
    upstream: bool = False
    short: str = ""


def parts(
    model: ManifestModel | ManifestStandaloneAudit | Node, policy: Policy
) -> tuple[Part, ...]:
    """Returns the parts of a model's decisions; it is requested if all of them hold."""
    cron = " ".join(filter(None, (model.cron, model.cron_tz)))
    due = label_of("due in SQLMesh", model.cron, model.cron_tz)
    return (
        Part(f"due in SQLMesh ({cron})", _due, short=due),
        Part("a reader is requested", lambda d: _unless(d.readers))
        if model.is_external
        else _schedule(policy),
        Part("not in progress", lambda d: _unless(d.in_progress)),
        Part("upstream ready", lambda d: _unless(d.upstream), upstream=True),
        Part("retry allowed", lambda d: _unless(d.retry)),
        Part("within limits", lambda d: _unless(d.limits)),
    )


def _schedule(policy: Policy) -> Part:
    schedule = policy.schedule
    if policy.paused or schedule is None:
        words = "off" if policy.paused else "whenever it is due"
        return Part(f"schedule open ({words})", lambda d: _unless(d.schedule))
    short = label_of("schedule open", schedule.cron, schedule.tz)
    return Part(f"schedule open ({schedule})", lambda d: _unless(d.schedule), short=short)


def _unless(objection: Reason | None) -> tuple[bool, Reason | None]:
    return objection is None, objection


def _due(decision: Decision) -> tuple[bool, Reason | None]:
    if decision.failed:
        return False, replace(decision.shown, whole=decision.reason)
    if objection := decision.plan or decision.unrecorded or decision.lookback:
        return False, objection
    # What holds one that is due stands at the part that it is about.
    return decision.is_due, None if decision.is_due and decision.held else decision.shown


@dataclass(frozen=True, eq=False)
class _LookUp(dg.AutomationCondition[Any]):
    """Shows one part of a decision as a condition.

    What changes from tick to tick stands in a child condition, because Dagster keeps a history by
    name. A condition without a label shows what is below it once more; so all have one, and
    Dagster shows the name, which may be longer, where the mouse is on it.
    """

    part: Part
    model: str
    planner: Planner = field(repr=False)

    @property
    def name(self) -> str:
        """Returns the name, by which Dagster also tells whether the condition has changed."""
        return self.part.label

    def get_label(self) -> str:
        """Returns what Dagster shows."""
        return self.part.short or self.part.label

    @property
    def requires_cursor(self) -> bool:
        """Returns false: nothing is remembered from tick to tick."""
        return False

    def evaluate(self, context: AutomationContext[Any]) -> AutomationResult[Any]:
        """Returns the key if this part of its decision holds, with the reason as a child."""
        plan = self.planner.plan_of(context.asset_graph_view)
        decision = plan.decisions.get(self.model)
        holds, reason = (False, reasons.UNKNOWN) if decision is None else self.part.look(decision)
        if holds and decision is not None and (objection := self._object(context, plan)):
            holds, reason = False, objection
        empty = context.get_empty_subset()
        children = []
        if reason is not None:
            child = context.for_child_condition(
                _Reason(reason), child_indices=[0], candidate_subset=context.candidate_subset
            )
            subset = context.candidate_subset if holds else empty
            children.append(AutomationResult(child, subset))
        return AutomationResult(
            context,
            context.candidate_subset if holds else empty,
            child_results=children,
        )

    def _object(self, context: AutomationContext[Any], plan: TickPlan) -> Reason | None:
        """Returns what only the evaluation can hold against it; ``None`` if nothing."""
        return None


@dataclass(frozen=True, eq=False)
class _Reason(dg.AutomationCondition[Any]):
    """Shows a reason below the condition that it explains: in short, and whole under the mouse."""

    reason: Reason

    @property
    def name(self) -> str:
        return "reason"

    def get_label(self) -> str:
        return self.reason.short

    def get_node_snapshot(self, unique_id: str) -> Any:
        # Dagster shows this name; the other one, which never changes, makes the unique id.
        return super().get_node_snapshot(unique_id)._replace(name=self.reason.whole)

    @property
    def requires_cursor(self) -> bool:
        return False

    def evaluate(self, context: AutomationContext[Any]) -> AutomationResult[Any]:
        raise NotImplementedError("a reason is shown, not evaluated")


@dataclass(frozen=True, eq=False)
class _UpstreamReady(_LookUp):
    def _object(self, context: AutomationContext[Any], plan: TickPlan) -> Reason | None:
        if not plan.decisions[self.model].requested:
            return None
        for key in plan.requested_upstream(self.model):
            # Dagster evaluates upstream assets first; their conditions may be composed with others.
            subset = context.request_subsets_by_key.get(key)
            if subset is None or subset.is_empty:
                return reasons.upstream_withheld(key.to_user_string())
        return None


def sqlmesh_due(
    planner: Planner, model: ManifestModel | ManifestStandaloneAudit | Node, policy: Policy
) -> dg.AutomationCondition[Any]:
    """Requests a model when SQLMesh holds it due and nothing holds it back.

    It composes with other conditions, for example ``default & in_office_hours``.

    Args:
        planner: The planner whose decisions the tree looks up.
        model: The model or standalone audit.
        policy: How the model is automated.
    """
    first, second, *others = (
        (_UpstreamReady if part.upstream and policy.waits_for_upstream else _LookUp)(
            part, model.fqn, planner
        )
        for part in parts(model, policy)
    )
    return reduce(and_, others, first & second).with_label(LABEL)


@dataclass(frozen=True)
class SqlmeshDue(dg.AutomationCondition[Any]):
    """Stands for the default condition of a model, to compose it where that is not at hand.

    Use it on the assets of a SQLMesh environment::

        defs = build_definitions().map_resolved_asset_specs(
            func=lambda spec: spec.replace_attributes(automation_condition=SqlmeshDue() & ours),
            selection=dg.AssetSelection.groups("finance"),
        )

    The condition that an asset already has does as well: ``spec.automation_condition & ours``.
    """

    @property
    def name(self) -> str:
        """Returns the name by which Dagster tells conditions apart."""
        return "sqlmesh_due"

    def get_label(self) -> str:
        """Returns the label of the default condition, whose place it takes."""
        return LABEL

    @property
    def requires_cursor(self) -> bool:
        """Returns false: nothing is remembered from tick to tick."""
        return False

    async def evaluate(self, context: AutomationContext[Any]) -> AutomationResult[Any]:  # type: ignore[override]
        """Evaluates the default condition of the asset.

        Raises:
            NotASQLMeshAsset: The asset is no model, or another sensor evaluates it.
        """
        owner = Planner.node_of(context.key, context.asset_graph_view)
        if owner is None:
            raise NotASQLMeshAsset(context.key.to_user_string())
        planner, node = owner
        child = context.for_child_condition(
            sqlmesh_due(planner, node, node.policy),
            child_indices=[0],
            candidate_subset=context.candidate_subset,
        )
        result = await child.evaluate_async()
        return AutomationResult(context, result.true_subset, child_results=[result])
