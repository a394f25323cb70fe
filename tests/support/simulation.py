"""A year of ticks in seconds: real SQLMesh snapshots in memory, real decisions, made-up runs.

What is missing, and what has been recorded, SQLMesh's own snapshots say. What to request,
``decide`` says. Time jumps from one moment at which something can change to the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random

from dagster_sqlmesh_automation.assets.intervals import moment
from dagster_sqlmesh_automation.assets.ledger.outcome import Outcome, OutcomeStatus
from dagster_sqlmesh_automation.automation.facts.attempts import EndedRun, attempt_of
from dagster_sqlmesh_automation.automation.facts.facts import (
    Attempt,
    DueState,
    Facts,
    Limits,
    Node,
)
from dagster_sqlmesh_automation.automation.facts.intervals import Range
from dagster_sqlmesh_automation.automation.tick.decision import Decision
from dagster_sqlmesh_automation.automation.tick.decisions import decide

from .twin import Design, Twin


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
        self._ended_at: dict[str, datetime] = {}

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
            due={node.fqn: due for node in self.nodes if (due := self.twin.due(node.fqn, at))},
            next_cron={name: self.twin.next_cron(name, at) for name in self.twin.snapshots},
        )
        facts = Facts(
            state,
            in_progress={name: run.run_id for run in self._active for name in run.models},
            attempts=self._attempts,
            requested_at=self._requested_at,
            ended_at=self._ended_at,
            started_at={run.run_id: run.started for run in self._active},
        )
        decisions = decide(self.nodes, facts, self.limits)
        requested = [name for name, decision in decisions.items() if decision.requested]
        if requested:
            self._request(requested, at, decisions)
        return decisions

    def _request(self, names: list[str], at: datetime, decisions: dict[str, Decision]) -> None:
        self.runs += 1
        if self.limits.models and len(names) > self.limits.models:
            beyond = {name for name in names if decisions[name].beyond}
            if len(beyond) != 1 or not set(names) <= beyond.union(*map(self._upstream, beyond)):
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
        self._ended_at.update(dict.fromkeys(run.models, run.ends))
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
            # In the hour before clocks jump ahead, SQLMesh takes an interval for ended that began.
            if moment(end) > run.started and moment(end) > self.twin.floor(name, run.started):
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
