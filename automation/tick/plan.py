"""A plan holds what one tick decides, and puts it into words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from zoneinfo import ZoneInfo

import dagster as dg

from ..facts.facts import Attempt, DueState, Facts, spoken, spoken_intervals
from .decision import Decision
from .reasons import WITHHELD


@dataclass(frozen=True)
class TickPlan:
    """Holds what one tick decides.

    Attributes:
        environment: The SQLMesh environment.
        zone: The IANA zone of times in messages.
        decisions: The decision on every model and standalone audit, by ``fqn``.
        parents: The ``fqn`` of everything that a model or standalone audit reads, by ``fqn``.
        keys: The asset key of every model, by ``fqn``.
        facts: What they were decided from.
        warnings: What was read and could not be used, and so was left out; a line each.
    """

    environment: str
    zone: str
    decisions: Mapping[str, Decision]
    parents: Mapping[str, Sequence[str]]
    keys: Mapping[str, dg.AssetKey]
    facts: Facts
    warnings: Sequence[str] = ()

    @property
    def state(self) -> DueState:
        """Returns what SQLMesh holds due."""
        return self.facts.state

    @property
    def attempts(self) -> Mapping[str, Sequence[Attempt]]:
        """Returns the last runs that failed to evaluate a due model, newest first, by ``fqn``."""
        return self.facts.attempts

    @cached_property
    def due(self) -> list[Decision]:
        """Returns the decisions on the models that SQLMesh would evaluate now."""
        return [d for d in self.decisions.values() if d.is_due and not d.readers]

    @cached_property
    def failed(self) -> list[Decision]:
        """Returns the decisions on the models that fail before a run can try them."""
        return [decision for decision in self.due if decision.failed]

    @cached_property
    def requested(self) -> list[Decision]:
        """Returns the decisions on the models that the tick requests."""
        return [decision for decision in self.due if decision.requested]

    @property
    def is_limited(self) -> bool:
        """Returns whether models have no place because others are requested."""
        return bool(self.requested) and any(decision.limits for decision in self.due)

    @cached_property
    def shown(self) -> int:
        """Returns a digest of all that the conditions show; it changes if anything does there."""
        return hash(tuple((model, decision.reason) for model, decision in self.decisions.items()))

    @property
    def counted(self) -> str:
        """Returns how many are due, such as ``3 of 18 models due``; what is only audited apart."""
        models = sum(decision.is_evaluated for decision in self.decisions.values())
        due = sum(decision.is_evaluated for decision in self.due)
        audits = sum(decision.is_audit for decision in self.due)
        external = len(self.due) - due - audits
        also = [
            f"{count} {kind}{'s' * (count != 1)}"
            for count, kind in ((audits, "standalone audit"), (external, "external model"))
            if count
        ]
        return " and ".join([f"{due} of {models} models due", *also])

    def summary(self, requested: int) -> str:
        """Returns what became of the tick in one line, which ends its log.

        Args:
            requested: How many models, standalone audits and external models are requested.
        """
        verdict = f"{self.counted}, {requested} requested" if requested else self.skip_message
        return f"{self.environment} at {self.at}: {verdict}"

    @property
    def at(self) -> str:
        """Returns the tick's moment in words."""
        return spoken(self.state.at.astimezone(ZoneInfo(self.zone)))

    @property
    def skip_message(self) -> str:
        """Returns why the tick requests nothing, in one line."""
        if self.state.unfinished:
            return f"{self.counted}; held: {self.state.unfinished}"
        if self.due:
            first = (self.failed or self.due)[0]
            why = first.reason if first.failed else first.held or WITHHELD
            more = f" (and {len(self.due) - 1} more)" if len(self.due) > 1 else ""
            return f"{self.counted}, all held: {first.name}: {why}{more}"
        upcoming = [d for d in self.decisions.values() if d.next_cron and not d.is_external]
        if not upcoming:
            return self.counted
        first = min(upcoming, key=lambda decision: (decision.next_cron, decision.name))
        assert first.next_cron is not None
        return f"{self.counted}; next: {first.name} at {spoken(first.next_cron)}"

    def requested_upstream(self, fqn: str) -> Iterator[dg.AssetKey]:
        """Yields the assets nearest upstream of a model that the tick requests too."""
        queue, seen = list(self.parents[fqn]), set()
        while queue:
            parent = queue.pop()
            if parent in seen:
                continue
            seen.add(parent)
            decision = self.decisions[parent]
            if decision.requested and decision.is_evaluated:
                yield self.keys[parent]
            else:
                queue.extend(self.parents[parent])

    def withheld(self, requested: Set[dg.AssetKey]) -> Iterator[str]:
        """Yields a line for each model that its own condition holds and SQLMesh does not."""
        for decision in self.requested:
            if decision.is_evaluated and self.keys[decision.model] not in requested:
                yield f"{decision.name} held: {WITHHELD}"

    @property
    def title(self) -> str:
        """Returns the tick's moment, and how many models are due and requested."""
        return f"{self.environment} at {self.at}: {self.counted}, {len(self.requested)} requested"

    def lines(self) -> Iterator[str]:
        """Yields a line for every model that is due or waits: its intervals, and what holds it."""
        for decision in self.decisions.values():
            if decision.is_due:
                assert decision.due is not None
                verdict = "requested" if decision.requested else decision.reason
                yield f"{decision.name} {verdict} ({spoken_intervals(decision.due.intervals)})"
            elif decision.due is not None:
                yield f"{decision.name} {decision.reason}"
