"""Which models one tick requests, and why the others are held: a pure function of facts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from zoneinfo import ZoneInfo

from ..facts.facts import Due, Facts, Limits, Node, spoken, spoken_intervals
from .retries import retry

REASONS = ("schedule", "in_progress", "upstream", "retry", "lookback", "limits")
"""Attributes of a decision that hold a model, in the order in which they are told."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether one model is requested at one tick, and why.

    Attributes:
        due: What SQLMesh would do; ``None`` where its cron has not elapsed.
        next_cron: When its cron elapses next, where the environment holds the model; in the zone
            of the settings.
        is_audit: Whether it is a standalone audit and no model.
        is_planned: Whether the environment holds it; not before a plan has added it.
        schedule: Why its schedule, a pause or the least gap between requests holds it; this and
            the following are empty where they do not.
        in_progress: Why a run in progress holds it.
        upstream: Why something that it reads holds it.
        retry: Why its last failures hold it.
        limits: Why this tick's run has no place for it.
        retry_at: When its last failures no longer hold it, where they do; in the zone of the
            settings.
    """

    model: str
    name: str
    due: Due | None
    next_cron: datetime | None
    is_audit: bool = False
    is_planned: bool = True
    schedule: str = ""
    in_progress: str = ""
    upstream: str = ""
    retry: str = ""
    limits: str = ""
    retry_at: datetime | None = None

    @property
    def is_due(self) -> bool:
        """Whether SQLMesh would evaluate at least one interval now."""
        return self.due is not None and bool(self.due.intervals)

    @property
    def held_by(self) -> str:
        """The first of :data:`REASONS` that holds a due model; empty where it is requested."""
        return next((reason for reason in REASONS if getattr(self, reason)), "")

    @property
    def held(self) -> str:
        """Why a due model is not requested; empty where it is."""
        return str(getattr(self, self.held_by)) if self.held_by else ""

    @property
    def lookback(self) -> str:
        """Why evaluating it would only repeat its lookback; empty where it would do more."""
        if self.due is None or not self.due.only_lookback:
            return ""
        return f"only its lookback is ready: {self.due.waiting}"

    @property
    def requested(self) -> bool:
        """Whether the tick requests the model."""
        return self.is_due and not self.held

    @property
    def reason(self) -> str:
        """The decision in words."""
        if not self.is_planned:
            return "not in the SQLMesh environment: a plan has to add it"
        if self.due is None:
            following = f"; next interval at {spoken(self.next_cron)}" if self.next_cron else ""
            return f"up to date{following}"
        if not self.due.intervals:
            return f"not ready: {self.due.waiting}"
        return f"held: {self.held}" if self.held else f"due: {spoken_intervals(self.due.intervals)}"


def decide(nodes: Sequence[Node], facts: Facts, limits: Limits) -> dict[str, Decision]:
    """Decides for every model of a tick.

    A model that is due is requested, unless

    - it is paused, its schedule has not fired since SQLMesh held it due, or its last request is
      too recent;
    - a run in progress covers it, or something upstream or downstream of it;
    - something upstream of it is due and not requested: SQLMesh would evaluate that first. Not so
      where its policy is to ignore that;
    - its last runs failed, as :func:`.retry` has it;
    - nothing but its lookback is ready, which every tick would evaluate again. What reads it is
      not held by that, as nothing new is missing upstream;
    - as many runs are in progress, or as many models requested, as are allowed.

    Args:
        nodes: All models and standalone audits, in topological order.
        facts: What is known.
        limits: What holds for the tick as a whole.

    Returns:
        The decisions by ``fqn``, in the order of the nodes.
    """
    decisions: dict[str, Decision] = {}
    blocked: dict[str, str] = {}
    below = _upstream_of_runs(nodes, facts.in_progress)
    full = _full(facts.in_progress, limits)
    requested = 0
    for node in nodes:
        run_id = facts.in_progress.get(node.fqn)
        upstream = next((blocked[parent] for parent in node.parents if parent in blocked), "")
        in_progress = f"run {run_id} is evaluating it" if run_id else below.get(node.fqn, "")
        decision = _decision(node, facts, limits, in_progress=in_progress, upstream=upstream)
        if decision.requested:
            requested += 1
            decision = replace(decision, limits=_over(requested, limits) or full)
        decisions[node.fqn] = decision
        if run_id:
            blocked[node.fqn] = f"upstream {node.name} is being evaluated by run {run_id}"
        elif decision.upstream:
            # Also through a model that is not due itself: SQLMesh evaluates all that misses
            # intervals upstream, however far.
            blocked[node.fqn] = upstream
        elif decision.is_due and not decision.requested and not decision.lookback:
            blocked[node.fqn] = f"upstream {node.name} is held: {decision.held}"
    return decisions


def _decision(
    node: Node, facts: Facts, limits: Limits, *, in_progress: str, upstream: str
) -> Decision:
    """The decision about one model, before the limits of the tick as a whole."""
    state, zone = facts.state, ZoneInfo(limits.zone)
    next_cron = state.next_cron.get(node.fqn)
    decision = Decision(
        model=node.fqn,
        name=node.name,
        due=state.due.get(node.fqn),
        next_cron=next_cron.astimezone(zone) if next_cron else None,
        is_audit=node.is_audit,
        is_planned=node.fqn in state.models,
        in_progress=in_progress,
        upstream=upstream if node.policy.waits_for_upstream else "",
    )
    if not decision.is_due:
        return decision
    waits = retry(node, facts, zone)
    return replace(
        decision,
        retry=waits.reason,
        retry_at=waits.at,
        schedule=_schedule(node, facts, waits.resumed, zone),
    )


def _over(requested: int, limits: Limits) -> str:
    """Why a model is one too many for this tick's run; empty where it is not."""
    if not limits.models or requested <= limits.models:
        return ""
    full_run = f"this tick's run has its {limits.models} models"
    return f"{full_run} ({limits.prefix}MAX_MODELS_PER_RUN)"


def _upstream_of_runs(nodes: Sequence[Node], in_progress: Mapping[str, str]) -> dict[str, str]:
    """What is upstream of models that a run evaluates: it would change under them."""
    reasons: dict[str, str] = {}
    if not in_progress:
        return reasons
    for node in reversed(nodes):
        run_id = in_progress.get(node.fqn)
        why = (
            f"run {run_id} is evaluating {node.name}, which reads it"
            if run_id
            else reasons.get(node.fqn)
        )
        if why:
            for parent in node.parents:
                reasons.setdefault(parent, why)
    return reasons


def _full(in_progress: Mapping[str, str], limits: Limits) -> str:
    """Why no further run is requested; empty where one may be."""
    runs = sorted(set(in_progress.values()))
    if len(runs) < limits.executions:
        return ""
    at_once = f"{limits.executions} at once is the limit"
    verb = "is" if len(runs) == 1 else "are"
    return f"run {', '.join(runs)} {verb} in progress, and {at_once}"


def _schedule(node: Node, facts: Facts, resumed: datetime | None, zone: ZoneInfo) -> str:
    """Why a model's schedule, a pause or the least gap holds it; empty where nothing does.

    Args:
        node: The model, which is due.
        facts: What is known.
        resumed: The cron tick at which its attempts start anew; ``None`` where none failed.
        zone: Zone of the times.
    """
    policy, at = node.policy, facts.state.at
    if node.fqn in facts.unautomated:
        return "not automated: its asset has no automation condition"
    if policy.paused:
        origin = policy.origins.get("paused") or policy.origins.get("schedule")
        return f"paused by {origin}"
    if policy.schedule is not None:
        opens = policy.schedule.opens(max(filter(None, (facts.since(node), resumed))))
        if at < opens:
            return f"its schedule {policy.schedule} fires at {spoken(opens.astimezone(zone))}"
    last = facts.requested_at.get(node.fqn)
    if last is not None and at < last + policy.min_gap:
        until = spoken((last + policy.min_gap).astimezone(zone))
        return f"at most one request in {policy.min_gap}; not before {until}"
    return ""
