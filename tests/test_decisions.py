"""Decisions as a table: one row for each situation."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest

from dagster_sqlmesh_automation.automation.decisions import Decision, decide
from dagster_sqlmesh_automation.automation.facts import (
    Attempt,
    Due,
    DueState,
    Facts,
    Limits,
    Node,
    spoken_intervals,
)

AT = datetime(2026, 11, 24, 0, 0, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)
INTERVAL = (AT.replace(second=0) - HOUR, AT.replace(second=0))
DUE = Due((INTERVAL,))

# raw -> orders (hourly) -> daily (daily) -> report (hourly); audit reads daily
NODES = (
    Node("orders", "sales.orders", (), "@hourly"),
    Node("daily", "sales.daily", ("orders",), "@daily"),
    Node("report", "sales.report", ("daily",), "@hourly"),
    Node("other", "hr.staff", (), "@hourly", "Europe/Berlin"),
    Node("audit", "assert_daily", ("daily",), "@daily"),
)


@dataclass
class Row:
    """A situation: what is due, what runs, what failed; and what is decided."""

    name: str
    due: dict[str, Due]
    requested: set[str]
    held: dict[str, str] = field(default_factory=dict)
    in_progress: dict[str, str] = field(default_factory=dict)
    failures: dict[str, list[Attempt]] = field(default_factory=dict)
    limits: Limits = Limits(executions=4)
    planned_at: datetime = AT - timedelta(days=30)
    at: datetime = AT
    models: set[str] = field(default_factory=lambda: {node.fqn for node in NODES})


MINUTE = timedelta(minutes=1)


def failed(since: timedelta, why: str = "failed", times: int = 1) -> list[Attempt]:
    """So many attempts in a row, the last one so long ago."""
    newest = AT - since
    return [
        Attempt(f"run-{n}", moment, moment, moment, why)
        for n in range(times, 0, -1)
        for moment in [newest - (times - n) * timedelta(seconds=1)]
    ]


def not_tried(row: int, since: timedelta) -> dict[str, list[Attempt]]:
    """So many runs in a row that ended before they tried it, the last of them so long ago."""
    return {"daily": [replace(each, tried=False) for each in failed(since, "not evaluated", row)]}


ROWS = [
    Row("nothing is due", {}, set()),
    Row("what is due is requested", {"orders": DUE, "daily": DUE}, {"orders", "daily"}),
    Row("a model that waits for a signal is not", {"orders": Due(waiting="signal x")}, set()),
    Row(
        "a model waits while a run evaluates it",
        {"orders": DUE, "other": DUE},
        {"other"},
        held={"orders": "run run-7 is evaluating it"},
        in_progress={"orders": "run-7"},
    ),
    Row(
        "descendants wait while a run evaluates their upstream, however far",
        {"report": DUE, "audit": DUE, "other": DUE},
        {"other"},
        held={
            "report": "upstream sales.orders is being evaluated by run run-7",
            "audit": "upstream sales.orders is being evaluated by run run-7",
        },
        in_progress={"orders": "run-7"},
    ),
    Row(
        "upstream models do not wait for a run of what reads them",
        {"orders": DUE},
        {"orders"},
        in_progress={"report": "run-7"},
    ),
    Row(
        "a model that failed waits for its next cron tick",
        {"orders": DUE},
        set(),
        held={"orders": "failed in run run-1; tried again at 2026-11-24 01:00 UTC"},
        failures={"orders": failed(timedelta(seconds=10))},
    ),
    Row(
        "at its next cron tick it is tried again",
        {"orders": DUE},
        {"orders"},
        failures={"orders": failed(timedelta(seconds=10))},
        at=datetime(2026, 11, 24, 1, 0, tzinfo=UTC),
    ),
    Row(
        "the next cron tick is counted in the model's own zone",
        {"other": DUE},
        set(),
        held={"other": "audit failed in run run-1; tried again at 2026-11-24 01:00 UTC"},
        failures={"other": failed(timedelta(seconds=10), "audit failed")},
    ),
    Row(
        "a new plan allows another try at once",
        {"orders": DUE},
        {"orders"},
        failures={"orders": failed(timedelta(seconds=10))},
        planned_at=AT - timedelta(seconds=5),
    ),
    Row(
        "what reads a failed model waits with it, and is not held longer than it",
        {"orders": DUE, "daily": DUE, "report": DUE},
        set(),
        held={
            "orders": "failed in run run-1; tried again at 2026-11-24 01:00 UTC",
            "daily": "upstream sales.orders is held: failed in run run-1; "
            "tried again at 2026-11-24 01:00 UTC",
            "report": "upstream sales.orders is held: failed in run run-1; "
            "tried again at 2026-11-24 01:00 UTC",
        },
        failures={"orders": failed(timedelta(seconds=10))},
    ),
    Row(
        "a failed model holds what reads it through one that is not due",
        {"orders": DUE, "report": DUE},
        set(),
        held={
            "orders": "failed in run run-1; tried again at 2026-11-24 01:00 UTC",
            "report": "upstream sales.orders is held: failed in run run-1; "
            "tried again at 2026-11-24 01:00 UTC",
        },
        failures={"orders": failed(timedelta(seconds=10))},
    ),
    Row(
        "an old failure of a model that is no longer due holds nothing",
        {"daily": DUE},
        {"daily"},
        failures={"orders": failed(timedelta(seconds=10))},
    ),
    Row(
        "a lookback alone is not repeated, and holds nothing",
        {"orders": Due((INTERVAL,), "signal x holds it", only_lookback=True), "daily": DUE},
        {"daily"},
        held={"orders": "only its lookback is ready: signal x holds it"},
    ),
    Row("a daily model does not wait for a weekly one", {"report": DUE}, {"report"}),
    Row(
        "a model that a run did not even try is requested again at once",
        {"daily": DUE},
        {"daily"},
        failures=not_tried(1, since=timedelta(seconds=1)),
    ),
    Row(
        "the second time it waits a minute",
        {"daily": DUE},
        set(),
        held={"daily": "not evaluated in run run-1; tried again at 2026-11-24 00:01 UTC"},
        failures=not_tried(2, since=timedelta(seconds=30)),
    ),
    Row("and no longer", {"daily": DUE}, {"daily"}, failures=not_tried(2, since=MINUTE)),
    Row(
        "then twice as long each time",
        {"daily": DUE},
        {"daily"},
        failures=not_tried(5, since=8 * MINUTE),
    ),
    Row(
        "up to an hour, and never longer than until its next cron tick",
        {"daily": DUE},
        {"daily"},
        failures=not_tried(10, since=HOUR),
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_decisions(row: Row) -> None:
    decisions = decisions_of(row)
    assert {fqn for fqn, decision in decisions.items() if decision.requested} == row.requested
    assert {fqn: d.held for fqn, d in decisions.items() if d.is_due and d.held} == row.held


def decisions_of(row: Row) -> dict[str, Decision]:
    next_cron = {node.fqn: AT + HOUR for node in NODES}
    state = DueState(row.at, "plan-1", row.planned_at, row.models, row.due, next_cron)
    facts = Facts(state, in_progress=row.in_progress, attempts=row.failures)
    return decide(NODES, facts, row.limits)


def test_reasons_read_as_sentences() -> None:
    row = Row("", {"orders": DUE, "daily": Due(waiting="signal x holds it")}, set())
    reasons = {fqn: decision.reason for fqn, decision in decisions_of(row).items()}
    assert reasons["orders"] == "due: 2026-11-23 23:00 to 2026-11-24 00:00 UTC"
    assert reasons["daily"] == "not ready: signal x holds it"
    assert reasons["report"] == "up to date; next interval at 2026-11-24 01:00:30 UTC"


def test_a_model_that_no_plan_has_added_is_not_called_up_to_date() -> None:
    decisions = decisions_of(Row("", {}, set(), models={"orders"}))
    assert decisions["orders"].reason.startswith("up to date")
    assert decisions["daily"].reason == "not in the SQLMesh environment: a plan has to add it"


def test_many_intervals_are_shortened() -> None:
    intervals = [(AT + HOUR * i, AT + HOUR * i + HOUR / 2) for i in range(5)]
    assert spoken_intervals(intervals).endswith("and 2 more")


def test_every_decision_of_a_tick_is_in_topological_order() -> None:
    assert list(decisions_of(Row("", {}, set()))) == [node.fqn for node in NODES]
