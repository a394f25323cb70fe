"""Decides whose turn it is where not every model that could go can: a pure function.

Limits on models and runs delay models; they must not make one wait for ever while others are
requested again and again. A model's turn comes by how long it has waited, and two things may not
put it off: that what it reads is due again whenever a run has a place for it, and that related runs
relieve each other.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime

from ..facts.facts import Facts, Limits, Node
from .reasons import Reason, goes_after, run_is_full
from .related import least_downstream, least_upstream, nearest_upstream, runs_around


@dataclass(frozen=True, slots=True)
class Turns:
    """Says which models wait for their turn.

    Attributes:
        held: Why a model waits for its turn, by ``fqn``.
        beyond: Why a model is requested with more models than the limit, by ``fqn``.
    """

    held: Mapping[str, Reason] = field(default_factory=dict)
    beyond: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, order=True, slots=True)
class _Place:
    """Holds a model's place in the queue; upstream ones go first where it is the same.

    Attributes:
        since: Since when nothing of its own has held the model, aware.
        number: Its number in topological order.
        name: The name that a person knows it by.
    """

    since: datetime
    number: int
    name: str = field(compare=False)


def take_turns(
    nodes: Sequence[Node], able: Set[str], waiting: Set[str], facts: Facts, limits: Limits
) -> Turns:
    """Decides which of the models that nothing else holds wait for their turn.

    - What would make a model wait longer that has been overtaken is held: a related one that had
      its turn meanwhile and is due again. A model has been overtaken if all the runs in progress
      that it waits for began after it.
    - Where there are more models than the limit, those that have waited longest go, each with all
      that is due upstream of it.
    - Where that alone is more than the limit, what is upstream goes first, and once. What is due
      again by then goes with the model, whatever the limit: SQLMesh evaluates it first in any
      case, and the model would never have its turn.

    Args:
        nodes: All models and standalone audits, in topological order.
        able: ``fqn`` of what nothing else holds, nor anything upstream of it.
        waiting: ``fqn`` of what only runs in progress hold.
        facts: What the tick has read.
        limits: What holds for the tick as a whole.
    """
    queue = _Queue(nodes, facts)
    reserved = queue.reserved(able, waiting) if able and waiting else {}
    able = _without(nodes, able, reserved.keys())
    if not limits.models or len(able) <= limits.models:
        return Turns(reserved)
    chosen, beyond = queue.choose(able, limits)
    return Turns({**dict.fromkeys(able - chosen, run_is_full(limits)), **reserved}, beyond)


class _Queue:
    """Orders models by how long they have waited.

    Args:
        nodes: All models and standalone audits, in topological order.
        facts: What the tick has read.
    """

    def __init__(self, nodes: Sequence[Node], facts: Facts) -> None:
        self._nodes, self._facts = nodes, facts
        self._numbers = {node.fqn: number for number, node in enumerate(nodes)}

    def reserved(self, able: Set[str], waiting: Set[str]) -> dict[str, Reason]:
        """Returns why models are held for those that runs in progress have overtaken, by ``fqn``.

        Args:
            able: ``fqn`` of what could be requested.
            waiting: ``fqn`` of what only runs in progress hold.
        """
        started, around = self._facts.started_at, runs_around(self._nodes, self._facts.in_progress)
        places = {fqn: self._place(fqn) for fqn in waiting}
        overtaken = {
            fqn: place
            for fqn, place in places.items()
            if all(run in started and started[run] > place.since for run in around[fqn])
        }
        readers = least_downstream(self._nodes, overtaken)
        read = least_upstream(self._nodes, overtaken)
        seniors = least_downstream(self._nodes, {fqn: self._place(fqn) for fqn in able})
        held: dict[str, Reason] = {}
        for fqn in able:
            related = [least[fqn] for least in (readers, read) if fqn in least]
            if not related or not self._had_turn(fqn, (oldest := min(related)).since):
                continue
            if fqn not in seniors or oldest < seniors[fqn]:
                held[fqn] = goes_after(oldest.name)
        return held

    def choose(self, able: Set[str], limits: Limits) -> tuple[Set[str], dict[str, str]]:
        """Returns which of too many models are requested, and why more than the limit if so."""
        upstream = nearest_upstream(self._nodes, able)
        first, *others = sorted(map(self._place, able))
        chosen, beyond = self._first(first, upstream, limits)
        for place in others:
            room = limits.models - len(chosen)
            if room <= 0:
                break
            # Those that have waited less only fill what is left.
            unit = _unit(self._nodes[place.number].fqn, upstream, chosen, room)
            chosen |= unit if len(unit) <= room else set()
        return chosen, beyond

    def _first(
        self, place: _Place, upstream: Mapping[str, Sequence[str]], limits: Limits
    ) -> tuple[set[str], dict[str, str]]:
        """Returns what goes for the model that has waited longest, and why beyond the limit."""
        everything = _unit(self._nodes[place.number].fqn, upstream, (), len(self._nodes))
        if len(everything) <= limits.models:
            return everything, {}
        chosen: set[str] = set()
        for number in sorted(self._numbers[fqn] for fqn in everything):
            fqn = self._nodes[number].fqn
            if number != place.number and self._had_turn(fqn, place.since):
                continue
            unit = _unit(fqn, upstream, chosen, len(everything))
            if not chosen and len(unit) > limits.models:
                return unit, {fqn: self._beyond(fqn, len(unit), limits)}
            if len(chosen | unit) <= limits.models:
                chosen |= unit
        return chosen, {}

    def _beyond(self, fqn: str, models: int, limits: Limits) -> str:
        return (
            f"{self._nodes[self._numbers[fqn]].name} goes with all that is due upstream of it, "
            f"{models} models and more than {limits.setting}={limits.models}: they are due again "
            "before runs of so few come to it"
        )

    def _place(self, fqn: str) -> _Place:
        """Returns the place in the queue of a model that is due."""
        node, facts = self._nodes[self._numbers[fqn]], self._facts
        moments = [since := facts.since(node)]
        if node.policy.schedule is not None:
            moments.append(node.policy.schedule.opens(since))
        if (ended := facts.ended_at.get(fqn)) is not None:
            moments.append(ended)
        if (requested := facts.requested_at.get(fqn)) is not None:
            moments.append(requested + node.policy.min_gap)
        return _Place(max(moments), self._numbers[fqn], node.name)

    def _had_turn(self, fqn: str, since: datetime) -> bool:
        """Returns whether a model was evaluated after a moment, and has become due anew since."""
        facts = self._facts
        ended, anew = facts.ended_at.get(fqn), facts.state.due[fqn].since
        if ended is None or ended <= since:
            return False
        attempts = facts.attempts.get(fqn)
        return (anew is None or anew > since) and (not attempts or bool(attempts[0].evaluated))


def _without(nodes: Sequence[Node], able: Set[str], held: Collection[str]) -> Set[str]:
    """Returns what can be requested although some are held: not what reads those."""
    blocked: set[str] = set(held)
    for node in nodes if held else ():
        if node.policy.waits_for_upstream and not blocked.isdisjoint(node.parents):
            blocked.add(node.fqn)
    return able - blocked


def _unit(
    fqn: str, upstream: Mapping[str, Sequence[str]], chosen: Collection[str], room: int
) -> set[str]:
    """Returns a model and what has to go before it, as far as that is not chosen.

    The search ends where it is more than there is room for.

    Args:
        fqn: The model.
        upstream: What is due nearest upstream of each model, by ``fqn``.
        chosen: What goes already.
        room: How many there is a place for.
    """
    if fqn in chosen:
        return set()
    unit, queue = {fqn}, [fqn]
    while queue and len(unit) <= room:
        for parent in upstream[queue.pop()]:
            if parent not in unit and parent not in chosen:
                unit.add(parent)
                queue.append(parent)
    return unit
