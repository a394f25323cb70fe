"""Which models one tick requests, and why the others are held: a pure function of facts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime, timedelta

from ..assets.outcome import Interval
from ..config.cron import next_tick


@dataclass(frozen=True, slots=True)
class Node:
    """A model or standalone audit, and what it reads.

    Attributes:
        fqn: SQLMesh's name of it.
        name: The name that a person knows it by.
        parents: ``fqn`` of what it reads, as far as this code location holds it.
        cron: Cron expression or alias; ``cron_tz`` is its zone, UTC when ``None``.
        is_audit: Whether it is a standalone audit.
    """

    fqn: str
    name: str
    parents: tuple[str, ...]
    cron: str
    cron_tz: str | None = None
    is_audit: bool = False


@dataclass(frozen=True, slots=True)
class Due:
    """What SQLMesh would do with one model now.

    Attributes:
        intervals: What it would evaluate, as contiguous ranges; empty where it waits.
        waiting: What it waits for although its cron has elapsed, such as a signal.
        only_lookback: Whether SQLMesh has recorded all of the intervals before and would only
            repeat them. It does so at every run while a signal holds a newer one back.
    """

    intervals: tuple[Interval, ...] = ()
    waiting: str = ""
    only_lookback: bool = False


@dataclass(frozen=True, slots=True)
class DueState:
    """SQLMesh's answer for one moment.

    Attributes:
        at: The moment, aware.
        plan_id: The plan that the environment is at.
        planned_at: When that plan was applied; ``None`` while it is being applied.
        models: ``fqn`` of everything that the environment holds.
        due: Of every model whose cron has elapsed, by ``fqn``.
        next_cron: When each model's cron elapses next, by ``fqn``.
    """

    at: datetime
    plan_id: str
    planned_at: datetime | None
    models: Set[str]
    due: Mapping[str, Due]
    next_cron: Mapping[str, datetime]


@dataclass(frozen=True, slots=True)
class Attempt:
    """The last run that should have evaluated a model and did not.

    Attributes:
        run_id: The Dagster run.
        at: The moment for which the run was done, aware.
        started: When it started by the clock on the wall, aware; the same but for simulated runs.
        why: What became of the model, such as ``failed``.
        unevaluated: How many runs in a row ended without even trying the model, up to this one;
            0 where it was tried.
    """

    run_id: str
    at: datetime
    started: datetime
    why: str
    unevaluated: int = 0


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether one model is requested at one tick, and why.

    Attributes:
        due: What SQLMesh would do; ``None`` where its cron has not elapsed.
        next_cron: When its cron elapses next, where the environment holds the model.
        is_audit: Whether it is a standalone audit and no model.
        is_planned: Whether the environment holds it; not before a plan has added it.
        in_progress: Why it or something that it reads is being evaluated; empty where not.
        upstream: Why something that it reads holds it; empty where nothing does.
        retry: Why its last failure holds it; empty where it does not.
    """

    model: str
    name: str
    due: Due | None
    next_cron: datetime | None
    is_audit: bool = False
    is_planned: bool = True
    in_progress: str = ""
    upstream: str = ""
    retry: str = ""

    @property
    def is_due(self) -> bool:
        """Whether SQLMesh would evaluate at least one interval now."""
        return self.due is not None and bool(self.due.intervals)

    @property
    def held(self) -> str:
        """Why a due model is not requested; empty where it is."""
        return self.in_progress or self.upstream or self.retry or self.lookback

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


def decide(
    nodes: Sequence[Node],
    state: DueState,
    in_progress: Mapping[str, str],
    failures: Mapping[str, Attempt],
) -> dict[str, Decision]:
    """Decides for every model of a tick.

    A model that is due is requested, unless

    - a run in progress covers it, or something upstream of it;
    - something upstream of it is due and held: SQLMesh would evaluate that first;
    - its last run failed, until its next cron tick after that run, or a new plan;
    - its last runs ended without trying it (a process died, a database was out of reach), for a
      time that doubles with each one after the first;
    - nothing but its lookback is ready, which every tick would evaluate again. What reads it is
      not held by that, as nothing new is missing upstream.

    Args:
        nodes: All models and standalone audits, in topological order.
        state: What SQLMesh holds due.
        in_progress: Id of the run that covers a model, by ``fqn``.
        failures: The last attempt of a model, where that failed, by ``fqn``.

    Returns:
        The decisions by ``fqn``, in the order of the nodes.
    """
    decisions: dict[str, Decision] = {}
    blocked: dict[str, str] = {}
    for node in nodes:
        upstream = next((blocked[parent] for parent in node.parents if parent in blocked), "")
        run_id = in_progress.get(node.fqn)
        decision = Decision(
            model=node.fqn,
            name=node.name,
            due=state.due.get(node.fqn),
            next_cron=state.next_cron.get(node.fqn),
            is_audit=node.is_audit,
            is_planned=node.fqn in state.models,
            in_progress=f"run {run_id} is evaluating it" if run_id else "",
            upstream=upstream,
            retry=_retry(node, state, failures.get(node.fqn)),
        )
        decisions[node.fqn] = decision
        if run_id:
            blocked[node.fqn] = f"upstream {node.name} is being evaluated by run {run_id}"
        elif upstream:
            # Also through a model that is not due itself: SQLMesh evaluates all that misses
            # intervals upstream, however far.
            blocked[node.fqn] = upstream
        elif decision.is_due and decision.retry:
            blocked[node.fqn] = f"upstream {node.name} is held: {decision.retry}"
    return decisions


def _retry(node: Node, state: DueState, failure: Attempt | None) -> str:
    if failure is None:
        return ""
    if state.planned_at is not None and state.planned_at > failure.started:
        return ""
    again = next_tick(node.cron, failure.at, node.cron_tz)
    if failure.unevaluated:
        again = min(again, failure.at + _pause(failure.unevaluated))
    if state.at >= again:
        return ""
    return f"{failure.why} in run {failure.run_id}; tried again at {spoken(again)}"


def _pause(unevaluated: int) -> timedelta:
    """None after the first run, then a minute, two, four, up to an hour."""
    if unevaluated <= 1:
        return timedelta()
    return min(timedelta(minutes=2 ** min(unevaluated - 2, 10)), timedelta(hours=1))


def spoken(moment: datetime) -> str:
    """A moment as messages show it; seconds only where there are some."""
    clock = "%H:%M:%S" if moment.second else "%H:%M"
    return f"{moment:%Y-%m-%d {clock}} {moment.tzname() or 'UTC'}"


def spoken_intervals(intervals: Sequence[Interval]) -> str:
    """Intervals as messages show them: the first few."""
    shown = [f"{start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC" for start, end in intervals[:3]]
    more = f" and {len(intervals) - 3} more" if len(intervals) > 3 else ""
    return ", ".join(shown) + more
