"""A year of ticks in seconds: real SQLMesh snapshots in memory, real decisions, made-up runs.

What is missing, and what has been recorded, SQLMesh's own snapshots say. What to request,
``decide`` says. Time jumps from one moment at which something can change to the next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from sqlmesh.core.dialect import parse
from sqlmesh.core.model import load_sql_based_model
from sqlmesh.core.snapshot import Snapshot, SnapshotChangeCategory, missing_intervals

from dagster_sqlmesh_automation.assets.definitions.policy import Policy
from dagster_sqlmesh_automation.assets.intervals import moment
from dagster_sqlmesh_automation.assets.ledger.outcome import Outcome, OutcomeStatus
from dagster_sqlmesh_automation.automation.facts.attempts import EndedRun, attempt_of
from dagster_sqlmesh_automation.automation.facts.facts import (
    Attempt,
    Due,
    DueState,
    Facts,
    Limits,
    Node,
)
from dagster_sqlmesh_automation.automation.facts.intervals import Range, due_since, joined
from dagster_sqlmesh_automation.automation.tick.decisions import Decision, decide

DAY = timedelta(days=1)
KINDS = {
    "incremental": "INCREMENTAL_BY_TIME_RANGE (time_column ds)",
    "full": "FULL",
    "view": "VIEW",
}


@dataclass(frozen=True)
class Design:
    """One model of a random project."""

    name: str
    parents: tuple[str, ...]
    cron: str
    cron_tz: str | None
    kind: str
    policy: Policy


class Twin:
    """The snapshots of a project, and what has been recorded of them."""

    def __init__(self, designs: Sequence[Design], start: datetime) -> None:
        self.snapshots: dict[str, Any] = {}
        self._looks: dict[str, tuple[datetime, datetime, list[Range]]] = {}
        models: dict[str, Any] = {}
        for design in designs:
            zone = f", cron_tz '{design.cron_tz}'" if design.cron_tz else ""
            reads = "".join(f", (SELECT MAX(x) FROM db.{p}) AS {p}" for p in design.parents)
            text = (
                f"MODEL (name db.{design.name}, kind {KINDS[design.kind]}, cron '{design.cron}'"
                f"{zone}, start '{start:%Y-%m-%d}'); SELECT 1 AS x, '2026-01-01' AS ds{reads}"
            )
            model = load_sql_based_model(parse(text))
            models[model.fqn] = model
            snapshot = Snapshot.from_node(model, nodes=models)
            snapshot.categorize_as(SnapshotChangeCategory.BREAKING)
            self.snapshots[design.name] = snapshot

    def missing(self, name: str, at: datetime) -> list[Range]:
        """What SQLMesh would evaluate of a model at a moment."""
        return self._look(name, at)[2]

    def next_cron(self, name: str, at: datetime) -> datetime:
        """When a model's cron elapses next."""
        return self._look(name, at)[1]

    def _look(self, name: str, at: datetime) -> tuple[datetime, datetime, list[Range]]:
        look = self._looks.get(name)
        if look is None or not look[0] <= at < look[1]:
            snapshot = self.snapshots[name]
            # SQLMesh looks at every interval since the model's start; what is recorded without a
            # gap need not be looked at again.
            settled = (
                len(snapshot.intervals) == 1 and snapshot.model.kind.is_incremental_by_time_range
            )
            start = moment(snapshot.intervals[0][1]) - DAY if settled else None
            missing = missing_intervals([snapshot], start=start, end=at, execution_time=at)
            intervals = [(begin, end) for begin, end in missing.get(snapshot, [])]
            look = self._looks[name] = (at, snapshot.node.cron_next(at), intervals)
        return look

    def record(self, name: str, intervals: Sequence[Range]) -> None:
        """Records that intervals have been evaluated."""
        for start, end in intervals:
            self.snapshots[name].add_interval(start, end)
        self._looks.pop(name, None)


@dataclass
class SimulatedRun:
    """A run in progress, and what will become of it."""

    run_id: str
    started: datetime
    ends: datetime
    models: list[str]
    dies: bool
    intervals: dict[str, list[Range]]


@dataclass
class Simulation:
    """Ticks, runs, failures and outages over some time.

    Attributes:
        designs: The project, upstream first.
        start: When it begins; everything before is missing at first.
        trouble_until: After this nothing fails any more, and no tick is left out.
        random: Decides what fails and how long runs take.
        executed: What was executed, by model: interval and moment.
        wrong: What must not happen and did.
    """

    designs: Sequence[Design]
    start: datetime
    trouble_until: datetime
    random: Random
    limits: Limits
    failure_rate: float = 0.1
    executed: dict[str, list[Range]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    ticks: int = 0
    runs: int = 0

    def __post_init__(self) -> None:
        self.twin = Twin(self.designs, self.start)
        self.nodes = [
            Node(d.name, d.name, d.parents, d.cron, d.cron_tz, policy=d.policy)
            for d in self.designs
        ]
        self.by_name = {node.fqn: node for node in self.nodes}
        self._active: list[SimulatedRun] = []
        self._attempts: dict[str, list[Attempt]] = {}
        self._requested_at: dict[str, datetime] = {}

    def until(self, end: datetime) -> Simulation:
        """Lives through the time up to a moment."""
        at, outage = self.start, self.start
        while at < end:
            for run in [run for run in self._active if run.ends <= at]:
                self._end(run)
            if at >= outage:
                decisions = self._tick(at)
                moments = self._moments(at, decisions)
            else:
                moments = [outage]
            if at < self.trouble_until and self.random.random() < 0.01:
                longest = (self.trouble_until - self.start) / 10
                outage = at + self.random.choice([longest / 100, longest / 10, longest])
            moments += [run.ends for run in self._active]
            # The daemon is never on the dot.
            late = timedelta(seconds=self.random.randrange(0, 30))
            at = max(at + timedelta(seconds=1), min(moments) + late)
        return self

    def _tick(self, at: datetime) -> dict[str, Decision]:
        self.ticks += 1
        state = DueState(
            at=at,
            plan_id="plan",
            planned_at=self.start,
            models=set(self.by_name),
            due={node.fqn: due for node in self.nodes if (due := self._due(node.fqn, at))},
            next_cron={name: self.twin.next_cron(name, at) for name in self.twin.snapshots},
        )
        facts = Facts(
            state,
            in_progress={name: run.run_id for run in self._active for name in run.models},
            attempts=self._attempts,
            requested_at=self._requested_at,
        )
        decisions = decide(self.nodes, facts, self.limits)
        requested = [name for name, decision in decisions.items() if decision.requested]
        if requested:
            self._request(requested, at, decisions)
        return decisions

    def _due(self, name: str, at: datetime) -> Due | None:
        intervals = self.twin.missing(name, at)
        if not intervals:
            return None
        snapshot = self.twin.snapshots[name]
        since = due_since(snapshot, intervals, snapshot.intervals, (), None)
        spans = tuple((moment(start), moment(end)) for start, end in joined(intervals))
        return Due(spans, since=since if since is not None and since <= at else None)

    def _request(self, names: list[str], at: datetime, decisions: dict[str, Decision]) -> None:
        self.runs += 1
        if self.limits.models and len(names) > self.limits.models:
            self.wrong.append(f"{at}: {len(names)} models in one run")
        if len(self._active) >= self.limits.executions:
            self.wrong.append(f"{at}: {len(self._active) + 1} runs at once")
        busy = {name for run in self._active for name in run.models}
        for name in names:
            related = self._upstream(name) | {n for n in self.by_name if name in self._upstream(n)}
            if (related | {name}) & busy:
                self.wrong.append(f"{at}: {name} requested beside a run that it belongs to")
            lacking = {n for n in self._upstream(name) - set(names) if self.twin.missing(n, at)}
            if lacking:
                self.wrong.append(f"{at}: {name} requested while {sorted(lacking)} miss intervals")
            policy, due = self.by_name[name].policy, decisions[name].due
            assert due is not None
            if policy.paused:
                self.wrong.append(f"{at}: {name} is paused")
            opens = policy.schedule.opens(due.since) if policy.schedule and due.since else at
            if opens > at:
                self.wrong.append(f"{at}: {name} requested before {policy.schedule} fired")
            last = self._requested_at.get(name)
            if last is not None and at < last + policy.min_gap:
                self.wrong.append(f"{at}: {name} requested again after {at - last}")
            self._requested_at[name] = at
        trouble = at < self.trouble_until
        self._active.append(
            SimulatedRun(
                run_id=f"run-{self.runs}",
                started=at,
                ends=at + timedelta(seconds=self.random.choice([5, 60, 900, 20_000])),
                models=names,
                dies=trouble and self.random.random() < self.failure_rate / 2,
                intervals={name: list(self.twin.missing(name, at)) for name in names},
            )
        )

    def _end(self, run: SimulatedRun) -> None:
        self._active.remove(run)
        failed: set[str] = set()
        trouble = run.started < self.trouble_until
        alive = self.random.randrange(0, len(run.models)) if run.dies else len(run.models)
        for number, name in enumerate(run.models):
            if number >= alive:
                self._attempt(run, name, None)
            elif self._upstream(name) & failed:
                self._attempt(run, name, OutcomeStatus.SKIPPED)
            elif trouble and self.random.random() < self.failure_rate:
                failed.add(name)
                self._attempt(run, name, OutcomeStatus.FAILED)
            else:
                self._attempts.pop(name, None)
                self._execute(run, name)

    def _execute(self, run: SimulatedRun, name: str) -> None:
        done = self.executed.setdefault(name, [])
        for start, end in run.intervals[name]:
            if moment(end) > run.started:
                self.wrong.append(f"{name}: {moment(end)} executed at {run.started}")
            if self.designs_kind(name) == "incremental" and any(
                start < other_end and other_start < end for other_start, other_end in done
            ):
                self.wrong.append(f"{name}: {moment(start)} executed again at {run.started}")
        done += run.intervals[name]
        self.twin.record(name, run.intervals[name])

    def designs_kind(self, name: str) -> str:
        """Kind of a model."""
        return next(design.kind for design in self.designs if design.name == name)

    def _attempt(self, run: SimulatedRun, name: str, status: OutcomeStatus | None) -> None:
        ended = EndedRun(run.run_id, run.started, run.started, run.ends)
        attempt = attempt_of(ended, Outcome(name, name, status) if status else None)
        self._attempts.setdefault(name, []).insert(0, attempt)

    def _moments(self, at: datetime, decisions: dict[str, Decision]) -> list[datetime]:
        """When something can change without a run that ends."""
        moments = [at + timedelta(days=3)]
        for name, decision in decisions.items():
            moments.append(decision.next_cron or at)
            policy = self.by_name[name].policy
            if decision.due is not None and policy.schedule is not None:
                opens = policy.schedule.opens(decision.due.since or at)
                moments.append(
                    opens if opens > at else policy.schedule.opens(at + timedelta(seconds=1))
                )
            if decision.retry_at is not None:
                moments.append(decision.retry_at)
            if name in self._requested_at and policy.min_gap:
                moments.append(self._requested_at[name] + policy.min_gap)
        return [change.astimezone(UTC) for change in moments if change > at]

    def _upstream(self, name: str) -> set[str]:
        upstream: set[str] = set()
        queue = list(self.by_name[name].parents)
        while queue:
            parent = queue.pop()
            if parent not in upstream:
                upstream.add(parent)
                queue.extend(self.by_name[parent].parents)
        return upstream


def plain_runs(
    designs: Sequence[Design], start: datetime, end: datetime, left_out: Callable[[str], bool]
) -> Twin:
    """What ``sqlmesh run`` every five minutes comes to, where nothing fails.

    Moments at which no cron has elapsed since the last one change nothing and are passed over.
    """
    twin = Twin(designs, start)
    five = timedelta(minutes=5)
    at = start
    while at <= end:
        for design in designs:
            if not left_out(design.name) and (intervals := twin.missing(design.name, at)):
                twin.record(design.name, intervals)
        following = min(twin.next_cron(design.name, at) for design in designs)
        at = start + -(-(following - start) // five) * five
    return twin
