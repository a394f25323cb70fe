"""When external models are audited: with the first of their readers that is requested."""

from __future__ import annotations

from datetime import timedelta

import pytest
from support.decisions import AT, HOUR, INTERVAL, failed, moment

from dagster_sqlmesh_automation.assets.definitions.policy import Policy
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
from dagster_sqlmesh_automation.automation.tick.plan import TickPlan
from dagster_sqlmesh_automation.config.cron import Schedule

SIX = Policy(schedule=Schedule("0 6 * * *", "UTC"))
LIMITS = Limits()
FACTS = Facts(DueState(AT, "plan", AT, set(), {}, {}))
FAILED = failed(moment("00:00:10"), why="audit not_null failed")

# days (external) -> orders (hourly) -> daily (daily); audit reads daily; other reads nothing
DAYS = Node("days", "raw.days", (), "@daily", is_external=True)
ORDERS = Node("orders", "sales.orders", ("days",), "@hourly")
DAILY = Node("daily", "sales.daily", ("orders",), "@daily")
OTHER = Node("other", "hr.staff", (), "@daily")
AUDIT = Node("audit", "assert_daily", ("daily",), "@daily", is_audit=True)


def decided(
    due: str,
    nodes: tuple[Node, ...] = (DAYS, ORDERS, DAILY, OTHER, AUDIT),
    attempts: dict[str, list[Attempt]] | None = None,
    in_progress: dict[str, str] | None = None,
    limits: Limits = LIMITS,
) -> dict[str, Decision]:
    """What is decided where these are due."""
    state = DueState(
        at=AT,
        plan_id="plan",
        planned_at=AT - timedelta(days=9),
        models={node.fqn for node in nodes},
        due={name: Due((INTERVAL,), since=INTERVAL[1]) for name in due.split()},
        next_cron={node.fqn: AT + HOUR for node in nodes},
    )
    facts = Facts(state, in_progress=in_progress or {}, attempts=attempts or {})
    return decide(nodes, facts, limits)


def requested(decisions: dict[str, Decision]) -> str:
    return " ".join(fqn for fqn, decision in decisions.items() if decision.requested)


@pytest.mark.parametrize(
    ("due", "expected"),
    [
        ("days orders", "days orders"),
        ("days", ""),
        ("days other", "other"),
        ("days daily", "days daily"),
        ("days audit", "days audit"),
        ("orders", "orders"),
    ],
)
def test_an_external_model_is_audited_with_what_reads_it(due: str, expected: str) -> None:
    decisions = decided(due)
    assert requested(decisions) == expected
    if "days" in due and "days" not in expected:
        assert decisions["days"].held == "it is audited with what reads it"
        assert decisions["days"].held_by == "readers"


def test_one_that_waits_for_a_reader_is_not_counted_as_due() -> None:
    decisions = decided("days")
    plan = TickPlan("prod", "UTC", decisions, {}, {}, FACTS)
    assert plan.counted == "0 of 3 models due"
    assert plan.skip_message == "0 of 3 models due; next: assert_daily at 2026-11-24 01:00:30 UTC"

    parents = {"orders": ["days"], "days": []}
    plan = TickPlan("prod", "UTC", decided("days orders audit"), parents, {}, FACTS)
    assert plan.counted == "1 of 3 models due and 1 standalone audit and 1 external model"
    # It has no asset of ours whose condition could hold what reads it.
    assert list(plan.requested_upstream("orders")) == []


def test_its_failed_audits_hold_all_that_reads_it() -> None:
    decisions = decided("days orders daily other audit", attempts={"days": FAILED})
    assert requested(decisions) == "other"
    held = "audit not_null failed in run run-1; attempt 2 of 3 at 2026-11-24 00:10:10 UTC"
    assert decisions["days"].held == held
    assert {decisions[name].held for name in ("orders", "daily", "audit")} == {
        f"upstream raw.days is held: {held}"
    }


def test_it_waits_for_a_reader_s_schedule_and_for_no_schedule_of_its_own() -> None:
    late = Node("orders", "sales.orders", ("days",), "@hourly", policy=SIX)
    assert requested(decided("days orders", (DAYS, late))) == ""
    mapped = Node("days", "raw.days", (), "@daily", is_external=True, policy=SIX)
    assert requested(decided("days orders", (mapped, ORDERS))) == "days orders"


def test_a_reader_that_ignores_its_upstream_does_not_have_it_audited() -> None:
    ignoring = Policy(waits_for_upstream=False)
    reader = Node("orders", "sales.orders", ("days",), "@hourly", policy=ignoring)
    failures = {"days": FAILED}
    assert requested(decided("days orders", (DAYS, reader))) == "orders"
    assert requested(decided("days orders", (DAYS, reader), failures)) == "orders"


def test_it_takes_no_place_of_a_model() -> None:
    assert requested(decided("days orders other", limits=Limits(models=1))) == "days orders"
    full = decided("days orders", in_progress={"other": "run"})
    assert requested(full) == ""
    assert full["days"].held_by == "readers"


def test_a_run_that_audits_it_holds_it_and_what_reads_it() -> None:
    decisions = decided("days orders", in_progress={"days": "run"}, limits=Limits(executions=4))
    assert decisions["days"].held == "run run is evaluating it"
    assert decisions["orders"].held == "upstream raw.days is being evaluated by run run"
