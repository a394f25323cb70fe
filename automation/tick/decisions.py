"""Decides which models one tick requests, and why the others are held: a pure function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from zoneinfo import ZoneInfo

from ...assets.intervals import spoken_end, spoken_start
from ..facts.facts import Due, Facts, Limits, Node, spoken, spoken_intervals
from .related import upstream_of_requested, upstream_of_runs
from .retries import retry

REASONS = (
    "plan",
    "schedule",
    "in_progress",
    "readiness",
    "upstream",
    "retry",
    "unrecorded",
    "lookback",
    "readers",
    "limits",
)
"""Lists the attributes of a decision that hold a model, in the order in which they are told."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Says whether one model is requested at one tick, and why.

    Attributes:
        due: What SQLMesh would do; ``None`` if its cron has not elapsed.
        next_cron: When its cron elapses next and it may become due, in the zone of the settings;
            ``None`` if the environment does not hold it or it has ended.
        is_audit: Whether it is a standalone audit and no model.
        is_external: Whether it is an external model, of which SQLMesh evaluates the audits alone.
        is_planned: Whether the environment holds it; it does not before a plan has added it.
        plan: Why the environment's plan holds everything; this and the following are empty if
            they do not hold the model.
        schedule: Why its schedule, a pause or the least gap between requests holds it.
        in_progress: Why a run in progress holds it.
        upstream: Why something that it reads holds it.
        retry: Why its last failures hold it.
        unrecorded: Why evaluating it would only repeat what a run has evaluated and SQLMesh has
            not recorded.
        readers: Why an external model is not audited: nothing that reads it is requested.
        limits: Why this tick's run has no place for it.
        starts: When it starts; ``None`` if it has started.
        ended: The first moment no longer evaluated if it has ended; ``None`` if it has not.
        retry_at: When its last runs no longer hold it, in the zone of the settings; ``None`` if
            they do not hold it.
    """

    model: str
    name: str
    due: Due | None
    next_cron: datetime | None
    is_audit: bool = False
    is_external: bool = False
    is_planned: bool = True
    plan: str = ""
    schedule: str = ""
    in_progress: str = ""
    upstream: str = ""
    retry: str = ""
    unrecorded: str = ""
    readers: str = ""
    limits: str = ""
    starts: datetime | None = None
    ended: datetime | None = None
    retry_at: datetime | None = None

    @property
    def is_evaluated(self) -> bool:
        """Returns whether SQLMesh evaluates it, so that it is an asset and no checks alone."""
        return not (self.is_audit or self.is_external)

    @property
    def is_due(self) -> bool:
        """Returns whether SQLMesh would evaluate at least one interval now."""
        return self.due is not None and bool(self.due.intervals)

    @property
    def held_by(self) -> str:
        """Returns the first of :data:`REASONS` that holds a due model; empty if none does."""
        return next((reason for reason in REASONS if getattr(self, reason)), "")

    @property
    def held(self) -> str:
        """Returns why a due model is not requested; empty if it is."""
        return str(getattr(self, self.held_by)) if self.held_by else ""

    @property
    def readiness(self) -> str:
        """Returns why nobody can tell whether it is ready; empty if SQLMesh can."""
        return self.due.failed if self.due is not None else ""

    @property
    def failed(self) -> bool:
        """Returns whether it is due and fails before a run can try it."""
        return self.is_due and self.held_by == "readiness"

    @property
    def lookback(self) -> str:
        """Returns why evaluating it would only repeat its lookback; empty if it would do more."""
        if self.due is None or not self.due.only_lookback:
            return ""
        return f"only its lookback is ready: {self.due.waiting}"

    @property
    def requested(self) -> bool:
        """Returns whether the tick requests the model."""
        return self.is_due and not self.held

    @property
    def reason(self) -> str:
        """Returns the decision in words."""
        if not self.is_planned:
            return "not in the SQLMesh environment: a plan has to add it"
        if self.plan:
            return f"held: {self.plan}"
        if self.due is None:
            return self._idle
        if not self.due.intervals:
            return f"not ready: {self.due.waiting}"
        if self.failed:
            return f"failed: {self.held}"
        return f"held: {self.held}" if self.held else f"due: {spoken_intervals(self.due.intervals)}"

    @property
    def _idle(self) -> str:
        """Returns what follows for a model of which nothing is due."""
        following = f"next interval at {spoken(self.next_cron)}" if self.next_cron else ""
        if self.starts is not None:
            return f"starts on {spoken_start(self.starts)}; {following}"
        if self.ended is not None:
            following = f"evaluates nothing after {spoken_end(self.ended)}"
        return f"up to date; {following}" if following else "up to date"


def decide(nodes: Sequence[Node], facts: Facts, limits: Limits) -> dict[str, Decision]:
    """Decides for every model of a tick.

    A model that is due is requested, unless

    - the environment's plan is still being applied;
    - it is paused, its schedule has not fired since SQLMesh held it due, or its last request is
      too recent;
    - a run in progress covers it, or something upstream or downstream of it;
    - its signal raises, so that SQLMesh cannot tell whether it is ready. A run would only fail
      on it, tick after tick;
    - something upstream of it is due and not requested, because SQLMesh would evaluate that first;
      a policy can ignore that;
    - its last runs failed, or got nowhere, as :func:`.retry` tells;
    - a run has evaluated all that is due of it, and SQLMesh has not recorded that; or nothing but
      its lookback is ready. Every tick would evaluate the same again. What reads it is not held by
      that, as nothing new is missing upstream;
    - as many runs are in progress, or as many models requested, as are allowed.

    An external model is audited with the first of its readers that is requested, as by SQLMesh,
    whatever else its policy says; its failures hold all of them.

    Args:
        nodes: All models and standalone audits, in topological order.
        facts: What the tick has read.
        limits: What holds for the tick as a whole.

    Returns:
        The decisions by ``fqn``, in the order of the nodes.
    """
    tick = _Tick(nodes, facts, limits)
    decisions = {node.fqn: tick.decide(node) for node in nodes}
    wanted = upstream_of_requested(nodes, {m for m, d in decisions.items() if d.requested})
    return {
        fqn: replace(decision, readers="it is audited with what reads it")
        if decision.is_external and decision.requested and fqn not in wanted
        else decision
        for fqn, decision in decisions.items()
    }


class _Tick:
    """Decides one model after the other, and remembers what holds those downstream.

    Args:
        nodes: All models and standalone audits, in topological order.
        facts: What the tick has read.
        limits: What holds for the tick as a whole.
    """

    def __init__(self, nodes: Sequence[Node], facts: Facts, limits: Limits) -> None:
        self._facts, self._limits = facts, limits
        self._zone = ZoneInfo(limits.zone)
        self._read_by_runs = upstream_of_runs(nodes, facts.in_progress)
        self._full = _full(facts.in_progress, limits)
        self._blocked: dict[str, str] = {}
        self._requested = 0

    def decide(self, node: Node) -> Decision:
        """Decides for a model; call it for the models upstream first."""
        decision = self._by_others(node)
        if decision.is_due and node.is_external:
            decision = self._by_attempts(node, decision)
        elif decision.is_due:
            decision = self._within_limits(self._by_itself(node, decision))
        self._block(node, decision)
        return decision

    def _by_others(self, node: Node) -> Decision:
        """Returns what runs in progress and the models upstream say of a model."""
        state, run_id = self._facts.state, self._facts.in_progress.get(node.fqn)
        next_cron = state.next_cron.get(node.fqn)
        upstream = ""
        if node.policy.waits_for_upstream:
            reasons = (self._blocked[fqn] for fqn in node.parents if fqn in self._blocked)
            upstream = next(reasons, "")
        return Decision(
            model=node.fqn,
            name=node.name,
            due=state.due.get(node.fqn),
            next_cron=next_cron.astimezone(self._zone) if next_cron else None,
            starts=state.starts.get(node.fqn),
            ended=state.ended.get(node.fqn),
            is_audit=node.is_audit,
            is_external=node.is_external,
            is_planned=node.fqn in state.models,
            plan=state.unfinished,
            in_progress=(
                f"run {run_id} is evaluating it" if run_id else self._read_by_runs.get(node.fqn, "")
            ),
            upstream=upstream,
        )

    def _by_itself(self, node: Node, decision: Decision) -> Decision:
        """Adds what a due model's failures and its policy say."""
        waits = retry(node, self._facts, self._zone)
        return replace(
            decision,
            retry=waits.reason,
            unrecorded=waits.unrecorded,
            retry_at=waits.at,
            schedule=_schedule(node, self._facts, waits.resumed, self._zone),
        )

    def _by_attempts(self, node: Node, decision: Decision) -> Decision:
        """Adds what an external model's failures say."""
        waits = retry(node, self._facts, self._zone)
        return replace(decision, retry=waits.reason, unrecorded=waits.unrecorded, retry_at=waits.at)

    def _within_limits(self, decision: Decision) -> Decision:
        """Counts a model that is to be requested, and holds it if the tick has no place for it."""
        if not decision.requested:
            return decision
        self._requested += 1
        most, setting = self._limits.models, self._limits.setting
        if most and self._requested > most:
            return replace(decision, limits=f"this tick's run has its {most} models ({setting})")
        return replace(decision, limits=self._full)

    def _block(self, node: Node, decision: Decision) -> None:
        """Remembers why what reads a model is held."""
        if run_id := self._facts.in_progress.get(node.fqn):
            self._blocked[node.fqn] = f"upstream {node.name} is being evaluated by run {run_id}"
        elif decision.failed:
            self._blocked[node.fqn] = f"upstream {node.name} failed: {decision.held}"
        elif decision.upstream:
            # Also through a model that is not due itself: SQLMesh evaluates all that misses
            # intervals upstream, however far.
            self._blocked[node.fqn] = decision.upstream
        elif decision.is_due and not (
            decision.requested or decision.lookback or decision.unrecorded
        ):
            self._blocked[node.fqn] = f"upstream {node.name} is held: {decision.held}"


def _full(in_progress: Mapping[str, str], limits: Limits) -> str:
    """Returns why no further run is requested; empty if one may be."""
    runs = sorted(set(in_progress.values()))
    if len(runs) < limits.executions:
        return ""
    at_once = f"{limits.executions} at once is the limit"
    verb = "is" if len(runs) == 1 else "are"
    return f"run {', '.join(runs)} {verb} in progress, and {at_once}"


def _schedule(node: Node, facts: Facts, resumed: datetime | None, zone: ZoneInfo) -> str:
    """Returns why a model's schedule, a pause or the least gap holds it; empty if none does.

    Args:
        node: The model, which is due.
        facts: What the tick has read.
        resumed: When it starts anew after its last attempt failed; ``None`` if it does not.
        zone: The zone of the times.
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
