"""A decision says whether one tick requests a model, and why not if it does not."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ..facts.facts import Due
from . import reasons
from .reasons import Reason

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
        plan: Why the environment's plan holds everything; this and the following are ``None`` if
            they do not hold the model.
        schedule: Why its schedule, a pause or the least gap between requests holds it.
        in_progress: Why a run in progress holds it.
        upstream: Why something that it reads holds it.
        retry: Why its last failures hold it.
        unrecorded: Why evaluating it would only repeat what a run has evaluated and SQLMesh has
            not recorded.
        readers: Why an external model is not audited: nothing that reads it is requested.
        limits: Why this tick's run has no place for it.
        beyond: Why it is requested with more models than the limit; empty if it is not.
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
    plan: Reason | None = None
    schedule: Reason | None = None
    in_progress: Reason | None = None
    upstream: Reason | None = None
    retry: Reason | None = None
    unrecorded: Reason | None = None
    readers: Reason | None = None
    limits: Reason | None = None
    beyond: str = ""
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
        return next((name for name in REASONS if getattr(self, name) is not None), "")

    @property
    def held(self) -> str:
        """Returns why a due model is not requested; empty if it is."""
        return str(self.holding or "")

    @property
    def holding(self) -> Reason | None:
        """Returns why a due model is not requested, in both forms; ``None`` if it is."""
        reason: Reason | None = getattr(self, self.held_by) if self.held_by else None
        return reason

    @property
    def readiness(self) -> Reason | None:
        """Returns why nobody can tell whether it is ready; ``None`` if SQLMesh can."""
        failed = self.due.failed if self.due is not None else ""
        return reasons.unready(failed) if failed else None

    @property
    def failed(self) -> bool:
        """Returns whether it is due and fails before a run can try it."""
        return self.is_due and self.held_by == "readiness"

    @property
    def lookback(self) -> Reason | None:
        """Returns why evaluating it would only repeat its lookback; ``None`` if not so."""
        if self.due is None or not self.due.only_lookback:
            return None
        return reasons.only_lookback(self.due)

    @property
    def requested(self) -> bool:
        """Returns whether the tick requests the model."""
        return self.is_due and not self.held_by

    @property
    def reason(self) -> str:
        """Returns the decision in words."""
        if self.shown != self.holding:
            return str(self.shown)
        return f"{'failed' if self.failed else 'held'}: {self.holding}"

    @property
    def shown(self) -> Reason:
        """Returns the decision as Dagster's tree shows it, and in words."""
        if not self.is_planned:
            return reasons.UNPLANNED
        if self.plan is not None:
            return self.plan
        if self.due is None:
            return self._idle
        if not self.due.intervals:
            return reasons.waiting(self.due)
        return self.holding or reasons.due_now(self.due)

    @property
    def _idle(self) -> Reason:
        """Returns what follows for a model of which nothing is due."""
        if self.starts is not None:
            return reasons.not_started(self.starts, self.next_cron)
        if self.ended is not None:
            return reasons.has_ended(self.ended)
        if self.next_cron is not None:
            return reasons.next_interval(self.next_cron)
        return reasons.UP_TO_DATE
