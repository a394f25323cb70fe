"""Decides which models one tick requests, and why the others are held: a pure function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from datetime import datetime
from zoneinfo import ZoneInfo

from ..facts.facts import Facts, Limits, Node
from . import reasons
from .decision import Decision
from .reasons import Reason
from .related import upstream_of_requested, upstream_of_runs
from .retries import retry
from .turns import Turns, take_turns


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
    - as many runs are in progress as are allowed;
    - others have their turn before it, as :func:`.take_turns` tells.

    An external model is audited with the first of its readers that is requested, as by SQLMesh,
    whatever else its policy says; its failures hold all of them.

    Args:
        nodes: All models and standalone audits, in topological order.
        facts: What the tick has read.
        limits: What holds for the tick as a whole.

    Returns:
        The decisions by ``fqn``, in the order of the nodes.
    """
    decisions = _decisions(nodes, facts, limits, Turns())
    able = _requested(decisions)
    turns = take_turns(nodes, able, _waiting(nodes, facts, limits, able), facts, limits)
    if turns.held or turns.beyond:
        # What already held a model tells more than that something upstream waits for its turn.
        upstream = {fqn: decision.upstream for fqn, decision in decisions.items()}
        decisions = {
            fqn: replace(decision, upstream=upstream[fqn] or decision.upstream)
            for fqn, decision in _decisions(nodes, facts, limits, turns).items()
        }
    wanted = upstream_of_requested(nodes, _requested(decisions))
    return {
        fqn: replace(decision, readers=reasons.AUDITED_WITH_READERS)
        if decision.is_external and decision.requested and fqn not in wanted
        else decision
        for fqn, decision in decisions.items()
    }


def _decisions(
    nodes: Sequence[Node], facts: Facts, limits: Limits, turns: Turns
) -> dict[str, Decision]:
    tick = _Tick(nodes, facts, limits, turns)
    return {node.fqn: tick.decide(node) for node in nodes}


def _requested(decisions: Mapping[str, Decision]) -> set[str]:
    return {fqn for fqn, each in decisions.items() if each.requested and not each.is_external}


def _waiting(nodes: Sequence[Node], facts: Facts, limits: Limits, able: Set[str]) -> Set[str]:
    """Returns what only runs in progress hold, if there may be more of them."""
    if not able or not facts.started_at:
        return frozenset()
    alone = _decisions(nodes, replace(facts, in_progress={}), limits, Turns())
    return _requested(alone) - able - facts.in_progress.keys()


class _Tick:
    """Decides one model after the other, and remembers what holds those downstream.

    Args:
        nodes: All models and standalone audits, in topological order.
        facts: What the tick has read.
        limits: What holds for the tick as a whole.
        turns: Which models wait for their turn.
    """

    def __init__(self, nodes: Sequence[Node], facts: Facts, limits: Limits, turns: Turns) -> None:
        self._facts, self._turns = facts, turns
        self._zone = ZoneInfo(limits.zone)
        self._read_by_runs = upstream_of_runs(nodes, facts.in_progress)
        self._full = _full(facts.in_progress, limits)
        unfinished = facts.state.unfinished
        self._unfinished = (
            reasons.plan_unfinished(facts.state.plan_id, unfinished) if unfinished else None
        )
        self._blocked: dict[str, Reason] = {}

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
        upstream = None
        if node.policy.waits_for_upstream:
            blocked = (self._blocked[fqn] for fqn in node.parents if fqn in self._blocked)
            upstream = next(blocked, None)
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
            plan=self._unfinished,
            in_progress=(
                reasons.being_evaluated(run_id) if run_id else self._read_by_runs.get(node.fqn)
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
        """Holds a model that is to be requested if the tick has no place for it."""
        if not decision.requested:
            return decision
        turns, fqn = self._turns, decision.model
        limits = self._full or turns.held.get(fqn)
        return replace(decision, limits=limits, beyond=turns.beyond.get(fqn, ""))

    def _block(self, node: Node, decision: Decision) -> None:
        """Remembers why what reads a model is held."""
        if run_id := self._facts.in_progress.get(node.fqn):
            self._blocked[node.fqn] = reasons.upstream_running(node.name, run_id)
        elif decision.failed:
            self._blocked[node.fqn] = reasons.upstream_failed(node.name, decision.held)
        elif decision.upstream:
            # Also through a model that is not due itself: SQLMesh evaluates all that misses
            # intervals upstream, however far.
            self._blocked[node.fqn] = decision.upstream
        elif (
            decision.is_due
            and decision.holding is not None
            and not (decision.lookback or decision.unrecorded)
        ):
            self._blocked[node.fqn] = reasons.upstream_held(node.name, decision.holding)


def _full(in_progress: Mapping[str, str], limits: Limits) -> Reason | None:
    """Returns why no further run is requested; ``None`` if one may be."""
    runs = sorted(set(in_progress.values()))
    return None if len(runs) < limits.executions else reasons.runs_at_limit(runs, limits)


def _schedule(node: Node, facts: Facts, resumed: datetime | None, zone: ZoneInfo) -> Reason | None:
    """Returns why a model's schedule, a pause or the least gap holds it; ``None`` if none does.

    Args:
        node: The model, which is due.
        facts: What the tick has read.
        resumed: When it starts anew after its last attempt failed; ``None`` if it does not.
        zone: The zone of the times.
    """
    policy, at = node.policy, facts.state.at
    if node.fqn in facts.unautomated:
        return reasons.UNAUTOMATED
    if node.fqn in facts.withheld:
        return reasons.WITHHELD
    if policy.paused:
        origin = policy.origins.get("paused") or policy.origins.get("schedule")
        return reasons.paused(str(origin))
    if policy.schedule is not None:
        opens = policy.schedule.opens(max(filter(None, (facts.since(node), resumed))))
        if at < opens:
            return reasons.outside_schedule(policy.schedule, opens, at, zone)
    last = facts.requested_at.get(node.fqn)
    if last is not None and at < last + policy.min_gap:
        until = (last + policy.min_gap).astimezone(zone)
        return reasons.requested_lately(policy.min_gap, until, at)
    return None
