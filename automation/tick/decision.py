"""A decision says whether one tick requests a model, and why not if it does not."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ...assets.intervals import spoken_end, spoken_start
from ..facts.facts import Due, spoken, spoken_intervals

WITHHELD = "by what was added to its automation condition"
"""Why a model is held that nothing of SQLMesh's holds."""

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
    plan: str = ""
    schedule: str = ""
    in_progress: str = ""
    upstream: str = ""
    retry: str = ""
    unrecorded: str = ""
    readers: str = ""
    limits: str = ""
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
