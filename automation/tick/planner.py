"""The planner makes a tick's plan: it reads the facts and decides."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import dagster as dg

from ...assets.dagster_internals import AssetGraphView, BaseAssetGraph
from ...assets.definitions.policy import Policy
from ...assets.definitions.specs import AssetIndex
from ...assets.factory import PRIORITY_TAG
from ...assets.intervals import Interval, Record
from ...assets.project.manifest import Manifest
from ...config.errors import StorageLacking
from ...config.settings import AutomationSettings
from ..facts.facts import DueState, Facts, Limits, Node
from ..facts.runs import RunReader
from ..upkeep.drift import DriftReport
from ..upkeep.outside import OutsideEvaluations
from ..upkeep.parts import lacking
from ..upkeep.recovery import Recovery
from .decisions import decide
from .plan import TickPlan

LABEL = "due in SQLMesh, nothing holds it"
"""Labels every model's default automation condition."""

_PLANNERS: WeakKeyDictionary[AssetGraphView, Planner] = WeakKeyDictionary()

if TYPE_CHECKING:
    from ..facts.due import DueReader


class Planner:
    """Makes a plan for a tick, once, for all conditions that ask for it.

    Args:
        settings: The SQLMesh environment.
        manifest: The models of the environment.
        index: Tells which assets and checks stand for them.
        policies: How each model is automated, by ``fqn``.
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
        self._drift = DriftReport(manifest, index, settings)
        self._nodes = _nodes(manifest, policies)
        keys = index.keys
        self._by_key = {keys[node.fqn]: node for node in self._nodes if node.is_evaluated}
        self._outside = OutsideEvaluations(index, self._nodes, self._runs, self._recovery)
        self._parents = {node.fqn: node.parents for node in self._nodes}
        self._limits = Limits(
            executions=settings.max_concurrent_executions if manifest.has_lease else 1,
            models=settings.max_models_per_run,
            zone=settings.timezone,
            setting=settings.place("max_models_per_run"),
        )
        self._index = index
        self._outdated = [manifest.outdated] if manifest.outdated else []
        self._priorities = {fqn: policy.priority for fqn, policy in policies.items()}
        self._graph: BaseAssetGraph[Any] | None = None
        self._unautomated: Set[str] = frozenset()
        self._composed: Set[str] = frozenset()
        self._reader: DueReader | None = None
        self._lock = threading.Lock()
        self._plans: WeakKeyDictionary[AssetGraphView, TickPlan] = WeakKeyDictionary()

    @property
    def composed(self) -> bool:
        """Returns whether some condition is not ours alone.

        Its result may change while our decision stays.
        """
        return bool(self._composed)

    @property
    def checks(self) -> list[dg.AssetCheckKey]:
        """Returns the checks of standalone audits and external models."""
        return [key for keys in self._index.checks.values() for key in keys]

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
        try:
            facts = self._facts(instance, state, due) if due else Facts(state)
        except NotImplementedError as error:
            raise StorageLacking(lacking(error)) from error
        return self._plan(facts, self._limits, self._runs.take_unusable())

    def _plan(self, facts: Facts, limits: Limits, unusable: Sequence[str]) -> TickPlan:
        decisions = decide(self._nodes, facts, limits)
        return TickPlan(
            environment=self._settings.environment,
            zone=self._settings.timezone,
            decisions=decisions,
            parents=self._parents,
            keys=self._index.keys,
            facts=facts,
            warnings=[
                *self._outdated,
                *facts.state.warnings,
                *(decision.beyond for decision in decisions.values() if decision.beyond),
                *unusable,
            ],
        )

    def unlimited(self, plan: TickPlan) -> TickPlan:
        """Returns what a tick would decide if a run could have any number of models."""
        return self._plan(plan.facts, replace(self._limits, models=0), ())

    def without(self, plan: TickPlan, withheld: Set[dg.AssetKey]) -> TickPlan:
        """Returns what a tick decides once it is known which models users' conditions hold.

        Args:
            plan: What it decided without that.
            withheld: The assets that are not requested although nothing of SQLMesh's holds them.
        """
        held = {
            node.fqn
            for node in self._nodes
            if node.fqn in self._composed
            and plan.keys[node.fqn] in withheld
            and (
                not node.policy.waits_for_upstream
                or withheld.isdisjoint(plan.requested_upstream(node.fqn))
            )
        }
        return self._plan(replace(plan.facts, withheld=held), self._limits, ()) if held else plan

    def _facts(self, instance: dg.DagsterInstance, state: DueState, due: Sequence[Node]) -> Facts:
        """Reads what Dagster records of the models that are due."""
        runs, fqns = self._runs, [node.fqn for node in due]
        in_progress = runs.in_progress(instance)
        beside = self._limits.executions > 1 and bool(in_progress)
        limited = 0 < self._limits.models < len(due)
        return Facts(
            state,
            unautomated=self._unautomated,
            in_progress=in_progress,
            started_at=runs.started_at(instance, in_progress.values()) if beside else {},
            ended_at=runs.ended_at(instance, fqns, state.planned_at) if beside or limited else {},
            attempts=runs.attempts(instance, due, state),
            requested_at=runs.requested_at(
                instance, [node.fqn for node in due if node.policy.min_gap]
            ),
            evaluated_at=runs.evaluated_at(
                instance, [node.fqn for node in due if _is_partial(node, state)]
            ),
        )

    def learn(self, graph: BaseAssetGraph[Any]) -> None:
        """Learns from the code location's assets which of them are automated, and how.

        A translator, or whoever merges the definitions, may take a condition away or compose it.
        """
        if self._graph is graph:
            return
        keys = {node.fqn: self._index.keys[node.fqn] for node in self._nodes if node.is_evaluated}
        conditions = {
            fqn: graph.get(key).automation_condition for fqn, key in keys.items() if graph.has(key)
        }
        self._unautomated = {fqn for fqn, condition in conditions.items() if condition is None}
        self._composed = {
            fqn
            for fqn, condition in conditions.items()
            if condition is not None and condition.get_label() != LABEL
        }
        self._graph = graph

    def recover(self, instance: dg.DagsterInstance) -> Iterator[str]:
        """Reports what runs evaluated that died before they reported it; yields a line for each."""
        yield from self._recovery.report(instance, self._due_reader().recorded)

    def report_outside(self, instance: dg.DagsterInstance, plan: TickPlan) -> Iterator[str]:
        """Reports what was evaluated outside Dagster; yields a line for each model."""
        reader = self._due_reader()
        yield from self._outside.report(instance, plan.state, reader.recorded, reader.altered_since)

    def recorded(self, model: str) -> tuple[str, Record] | None:
        """Returns a model's snapshot and what SQLMesh has recorded, as of the last :meth:`plan`."""
        return self._due_reader().recorded(model)

    def relative_note(self) -> str:
        """Returns which databases depend on the working directory; empty if none do."""
        return self._due_reader().relative_note()

    def recorded_ahead(self) -> dict[str, tuple[Interval, ...]]:
        """Returns what was recorded before it had ended, by ``fqn``, after a :meth:`plan`."""
        return self._due_reader().recorded_ahead()

    def report_drift(self, instance: dg.DagsterInstance, plan: TickPlan) -> Iterator[str]:
        """Reports once for each plan where definitions and environment differ; yields lines."""
        return self._drift.report(instance, plan.state)

    def priority_tag(self, plan: TickPlan) -> dict[str, str]:
        """Returns the tag for Dagster's priority of a plan's run: that of its most urgent model."""
        wanted = (self._priorities.get(decision.model) for decision in plan.requested)
        priorities = [priority for priority in wanted if priority is not None]
        return {PRIORITY_TAG: str(max(priorities))} if priorities else {}

    def attach(self, view: AssetGraphView, plan: TickPlan) -> None:
        """Makes a plan the one that conditions of this evaluation look up."""
        self._plans[view] = plan
        _PLANNERS[view] = self

    def plan_of(self, view: AssetGraphView) -> TickPlan:
        """Returns the plan of one evaluation, and makes it at the first call.

        Dagster makes one view for an evaluation, whatever asks for it: our sensor, a sensor of
        the user's, or ``dagster.evaluate_automation_conditions``.
        """
        with self._lock:
            if view not in self._plans:
                self.learn(view.asset_graph)
                self.attach(view, self.plan(view.instance, view.effective_dt))
            return self._plans[view]

    @staticmethod
    def node_of(key: dg.AssetKey, view: AssetGraphView) -> tuple[Planner, Node] | None:
        """Returns an evaluation's planner and the model behind an asset, if there are any."""
        if (planner := _PLANNERS.get(view)) is None:
            return None
        node = planner._by_key.get(key)
        return (planner, node) if node is not None else None

    def _due_reader(self) -> DueReader:
        if self._reader is None:
            from ...assets.project.opening import import_sqlmesh

            import_sqlmesh()
            from ..facts.due import DueReader

            self._reader = DueReader(self._settings)
        return self._reader


def _is_partial(node: Node, state: DueState) -> bool:
    """Returns whether a model has a schedule and SQLMesh does not tell since when it is due."""
    return node.policy.schedule is not None and state.due[node.fqn].since is None


def _nodes(manifest: Manifest, policies: Mapping[str, Policy]) -> tuple[Node, ...]:
    """Returns all on which a tick decides in topological order: no embedded models."""
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
                is_external=model.is_external,
                policy=policies[model.fqn],
            )
            for model in manifest.told
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
    """Returns what is read; a model that SQLMesh inlines is replaced by what that one reads."""
    read = (
        (fqn,) if model.is_executed or model.is_only_audited else sources[fqn]
        for fqn in depends_on
        if (model := manifest.by_fqn.get(fqn))
    )
    return tuple(dict.fromkeys(fqn for fqns in read for fqn in fqns))
