"""Situations for the tables of decision tests, and what is decided in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from dagster_sqlmesh_automation.assets.definitions.policy import Policy
from dagster_sqlmesh_automation.assets.intervals import Interval
from dagster_sqlmesh_automation.automation.facts.facts import (
    Attempt,
    Due,
    DueState,
    Facts,
    Limits,
    Node,
)
from dagster_sqlmesh_automation.automation.tick.decision import Decision
from dagster_sqlmesh_automation.automation.tick.decisions import decide
from dagster_sqlmesh_automation.config.rules import RetrySettings


def moment(text: str) -> datetime:
    """A moment in UTC; a time alone is of 24 November 2026, a Tuesday."""
    return datetime.fromisoformat(text if "-" in text else f"2026-11-24 {text}").replace(tzinfo=UTC)


AT = moment("00:00:30")
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
INTERVAL = (moment("00:00") - HOUR, moment("00:00"))
DUE = Due((INTERVAL,), since=INTERVAL[1])
PARTIAL = Due((INTERVAL,))
"""Due at every moment, with an interval that has not ended yet."""

LIMITS = Limits(executions=4)
RETRY = RetrySettings(max_attempts=3, delay_seconds=300, max_delay_seconds=3600)
"""Of every model whose policy in a row says nothing else."""

# orders (hourly) -> daily (daily) -> report (hourly); audit reads daily; weekly reads orders
NODES = (
    Node("orders", "sales.orders", (), "@hourly"),
    Node("daily", "sales.daily", ("orders",), "@daily"),
    Node("report", "sales.report", ("daily",), "@hourly"),
    Node("weekly", "sales.weekly", ("orders",), "@weekly"),
    Node("monitor", "sales.monitor", ("weekly",), "@hourly"),
    Node("other", "hr.staff", (), "@daily", "Europe/Berlin"),
    Node("audit", "assert_daily", ("daily",), "@daily", is_audit=True),
)


def due(*names: str, since: datetime = INTERVAL[1]) -> dict[str, Due]:
    """These models due since a moment."""
    return {name: replace(DUE, since=since) for name in names}


def failed(
    *moments: datetime,
    why: str = "failed",
    tried: bool = True,
    retried: bool = True,
    evaluated: tuple[Interval, ...] = (),
) -> list[Attempt]:
    """Attempts that ended at these moments; the runs are numbered in the order of time."""
    runs = reversed(list(enumerate(sorted(moments), start=1)))
    return [Attempt(f"run-{n}", at, at, at, why, tried, retried, evaluated) for n, at in runs]


@dataclass
class Row:
    """A situation: what is due, what runs, what failed; and what is decided."""

    name: str
    due: Mapping[str, Due]
    requested: set[str]
    held: Mapping[str, str] = field(default_factory=dict)
    in_progress: Mapping[str, str] = field(default_factory=dict)
    failures: Mapping[str, Sequence[Attempt]] = field(default_factory=dict)
    policies: Mapping[str, Policy] = field(default_factory=dict)
    requested_at: Mapping[str, datetime] = field(default_factory=dict)
    evaluated_at: Mapping[str, datetime] = field(default_factory=dict)
    unautomated: set[str] = field(default_factory=set)
    limits: Limits = LIMITS
    planned_at: datetime | None = AT - 30 * DAY
    at: datetime = AT
    models: set[str] = field(default_factory=lambda: {node.fqn for node in NODES})


def decisions_of(row: Row) -> dict[str, Decision]:
    """What is decided in a situation."""
    next_cron = {node.fqn: AT + HOUR for node in NODES}
    state = DueState(row.at, "plan-1", row.planned_at, row.models, row.due, next_cron)
    facts = Facts(
        state,
        in_progress=row.in_progress,
        attempts=row.failures,
        requested_at=row.requested_at,
        evaluated_at=row.evaluated_at,
        unautomated=row.unautomated,
    )
    default = RetrySettings()
    policies = {node.fqn: row.policies.get(node.fqn, node.policy) for node in NODES}
    nodes = [
        replace(
            node,
            policy=replace(policy, retry=RETRY) if policy.retry == default else policy,
        )
        for node in NODES
        for policy in [policies[node.fqn]]
    ]
    return decide(nodes, facts, row.limits)


def check(row: Row) -> None:
    """Compares what is decided with what a row says."""
    decisions = decisions_of(row)
    assert {fqn: d.held for fqn, d in decisions.items() if d.is_due and d.held} == row.held
    assert {fqn for fqn, decision in decisions.items() if decision.requested} == row.requested
    assert set(row.due) >= row.requested | set(row.held)
