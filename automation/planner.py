"""One tick's plan: the facts, the decisions and how they read."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary
from zoneinfo import ZoneInfo

import dagster as dg
from dagster._core.asset_graph_view.asset_graph_view import AssetGraphView
from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph

from ..assets.factory import PRIORITY_TAG
from ..assets.manifest import Manifest
from ..assets.policy import Policy
from ..assets.specs import AssetIndex
from ..config.settings import AutomationSettings
from .decisions import Decision, decide
from .drift import DriftReport
from .facts import DueState, Facts, Limits, Node, spoken, spoken_intervals
from .recovery import Recovery
from .runs import RunReader

LABEL = "SQLMesh model is due and nothing holds it"
"""Label of every model's default automation condition."""

if TYPE_CHECKING:
    from .due import DueReader


@dataclass(frozen=True)
class TickPlan:
    """What one tick decides.

    Attributes:
        environment: The SQLMesh environment.
        zone: IANA zone of times in messages.
        state: What SQLMesh holds due.
        decisions: For every model and standalone audit, by ``fqn``.
    """

    environment: str
    zone: str
    state: DueState
    decisions: Mapping[str, Decision]

    @cached_property
    def due(self) -> list[Decision]:
        """Decisions of the models that SQLMesh would evaluate now."""
        return [decision for decision in self.decisions.values() if decision.is_due]

    @cached_property
    def requested(self) -> list[Decision]:
        """Decisions of the models that the tick requests."""
        return [decision for decision in self.due if decision.requested]

    @cached_property
    def shown(self) -> int:
        """A digest of all that the conditions show; the same where nothing would change there."""
        return hash(tuple((each.model, each.reason) for each in self.decisions.values()))

    @property
    def counted(self) -> str:
        """How many are due, such as ``3 of 18 models due``; standalone audits apart."""
        models = sum(not decision.is_audit for decision in self.decisions.values())
        due = sum(not decision.is_audit for decision in self.due)
        audits = len(self.due) - due
        also = f" and {audits} standalone audit{'s' * (audits != 1)}" if audits else ""
        return f"{due} of {models} models due{also}"

    @property
    def skip_message(self) -> str:
        """Why the tick requests nothing, in one line."""
        if self.state.planned_at is None:
            return f"{self.counted}; held: plan {self.state.plan_id} is being applied"
        if self.due:
            first = self.due[0]
            more = f" (and {len(self.due) - 1} more)" if len(self.due) > 1 else ""
            return f"{self.counted}, all held: {first.name}: {first.held}{more}"
        upcoming = [d for d in self.decisions.values() if d.next_cron is not None]
        if not upcoming:
            return self.counted
        first = min(upcoming, key=lambda decision: (decision.next_cron, decision.name))
        assert first.next_cron is not None
        return f"{self.counted}; next: {first.name} at {spoken(first.next_cron)}"

    def lines(self) -> Iterator[str]:
        """The tick in words: every due model, its intervals, and what holds any back."""
        at = spoken(self.state.at.astimezone(ZoneInfo(self.zone)))
        yield (f"{self.environment} at {at}: {self.counted}, {len(self.requested)} requested")
        for decision in self.decisions.values():
            if decision.is_due:
                assert decision.due is not None
                verdict = f"held: {decision.held}" if decision.held else "requested"
                yield f"{decision.name} {verdict} ({spoken_intervals(decision.due.intervals)})"
            elif decision.due is not None:
                yield f"{decision.name} {decision.reason}"


class Planner:
    """Makes a plan for a tick, once, for all conditions that ask for it.

    Args:
        settings: The SQLMesh environment.
        manifest: Its models.
        index: Their assets and checks.
        policies: How each is automated, by ``fqn``.

    Attributes:
        composed: Whether some asset's condition is not ours alone, so that it may change its mind
            without a decision that changes.
    """

    def __init__(
        self,
        settings: AutomationSettings,
        manifest: Manifest,
        index: AssetIndex,
        policies: Mapping[str, Policy],
    ) -> None:
        self._settings = settings
        self._runs = RunReader(index)
        self._recovery = Recovery(index)
        self._drift = DriftReport(manifest, index)
        self._nodes = _nodes(manifest, policies)
        self._limits = Limits(
            executions=settings.max_concurrent_executions if manifest.has_lease else 1,
            models=settings.max_models_per_run,
            zone=settings.timezone,
        )
        self._index = index
        self._priorities = {fqn: policy.priority for fqn, policy in policies.items()}
        self._graph: BaseAssetGraph[Any] | None = None
        self._unautomated: Set[str] = frozenset()
        self.composed = False
        self._reader: DueReader | None = None
        self._lock = threading.Lock()
        self._plans: WeakKeyDictionary[AssetGraphView, TickPlan] = WeakKeyDictionary()

    def plan(self, instance: dg.DagsterInstance, at: datetime) -> TickPlan:
        """Reads the facts and decides.

        Raises:
            AutomationError: As :meth:`.DueReader.read`.
        """
        state = self._due_reader().read(at)
        # Runs after SQLMesh's state: a run that ends in between has recorded its intervals.
        due = [
            node for node in self._nodes if node.fqn in state.due and state.due[node.fqn].intervals
        ]
        facts = (
            Facts(state)
            if not due
            else Facts(
                state,
                unautomated=self._unautomated,
                in_progress=self._runs.in_progress(instance),
                attempts=self._runs.attempts(instance, due, state.planned_at),
                requested_at=self._runs.requested_at(
                    instance, [node.fqn for node in due if _has_gap(node, state)]
                ),
            )
        )
        decisions = decide(self._nodes, facts, self._limits)
        return TickPlan(self._settings.environment, self._settings.timezone, state, decisions)

    def learn(self, graph: BaseAssetGraph[Any]) -> None:
        """Takes from the code location's assets which of them are automated, and how.

        A translator, or whoever merges the definitions, may take a condition away or compose it.
        """
        if self._graph is graph:
            return
        keys = {node.fqn: self._index.keys[node.fqn] for node in self._nodes if not node.is_audit}
        conditions = {
            fqn: graph.get(key).automation_condition for fqn, key in keys.items() if graph.has(key)
        }
        self._unautomated = {fqn for fqn, condition in conditions.items() if condition is None}
        self.composed = any(
            condition is not None and condition.get_label() != LABEL
            for condition in conditions.values()
        )
        self._graph = graph

    def recover(self, instance: dg.DagsterInstance) -> Iterator[str]:
        """Puts right what runs left behind that died; a line for each.

        Call it after :meth:`plan`, which reads SQLMesh's state.
        """
        return self._recovery.report(instance, self._due_reader().recorded)

    def report_drift(self, instance: dg.DagsterInstance, plan: TickPlan) -> Iterator[str]:
        """Reports where definitions and environment differ, once for each plan; a line for each."""
        return self._drift.report(instance, plan.state)

    def priority_tag(self, plan: TickPlan) -> dict[str, str]:
        """Dagster's priority of a plan's run: that of its most urgent model."""
        given = [self._priorities.get(each.model) for each in plan.requested]
        found = [priority for priority in given if priority is not None]
        return {PRIORITY_TAG: str(max(found))} if found else {}

    def attach(self, view: AssetGraphView, plan: TickPlan) -> None:
        """Makes a plan the one that conditions of this evaluation look up."""
        self._plans[view] = plan

    def plan_of(self, view: AssetGraphView) -> TickPlan:
        """The plan of one evaluation, made at the first question.

        Dagster makes one view for an evaluation, whatever asks for it: our sensor, a sensor of
        the user's, or ``dagster.evaluate_automation_conditions``.
        """
        with self._lock:
            if view not in self._plans:
                self.learn(view.asset_graph)
                self._plans[view] = self.plan(view.instance, view.effective_dt)
            return self._plans[view]

    def _due_reader(self) -> DueReader:
        if self._reader is None:
            from ..assets.project import import_sqlmesh

            import_sqlmesh()
            from .due import DueReader

            self._reader = DueReader(self._settings)
        return self._reader


def _has_gap(node: Node, state: DueState) -> bool:
    """Whether its last request matters."""
    partial = node.policy.schedule is not None and state.due[node.fqn].since is None
    return partial or bool(node.policy.min_gap)


def _nodes(manifest: Manifest, policies: Mapping[str, Policy]) -> tuple[Node, ...]:
    """Models and standalone audits in topological order, read through embedded models."""
    sources: dict[str, tuple[str, ...]] = {}
    for model in manifest.models:
        sources[model.fqn] = _through_unexecuted(model.depends_on, manifest, sources)
    return (
        *(
            Node(
                fqn=model.fqn,
                name=model.name,
                parents=sources[model.fqn],
                cron=model.cron,
                cron_tz=model.cron_tz,
                policy=policies[model.fqn],
            )
            for model in manifest.executed
        ),
        *(
            Node(
                fqn=audit.fqn,
                name=audit.name,
                parents=_through_unexecuted(audit.depends_on, manifest, sources),
                cron=audit.cron,
                cron_tz=audit.cron_tz,
                is_audit=True,
                policy=policies[audit.fqn],
            )
            for audit in manifest.standalone_audits
        ),
    )


def _through_unexecuted(
    depends_on: Sequence[str], manifest: Manifest, sources: Mapping[str, tuple[str, ...]]
) -> tuple[str, ...]:
    """What is read, with each model that SQLMesh inlines replaced by what that one reads."""
    read = (
        (fqn,) if manifest.by_fqn[fqn].is_executed else sources[fqn]
        for fqn in depends_on
        if fqn in manifest.by_fqn
    )
    return tuple(dict.fromkeys(fqn for fqns in read for fqn in fqns))
