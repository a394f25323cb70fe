"""Decisions as a table: what is due, what runs, and how it reads."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.decisions import AT, DUE, HOUR, INTERVAL, NODES, Row, check, decisions_of, due, failed

from dagster_sqlmesh_automation.assets.definitions.policy import Policy
from dagster_sqlmesh_automation.automation.facts.facts import Due, spoken_intervals

SAYS = "signal x: ValueError: boom"
RAISED = replace(DUE, failed=SAYS)
BY_ORDERS = f"upstream sales.orders failed: {SAYS}"

ROWS = [
    Row("nothing is due", {}, set()),
    Row("what is due is requested", due("orders", "daily"), {"orders", "daily"}),
    Row("a model that waits for a signal is not", {"orders": Due(waiting="signal x")}, set()),
    Row(
        "and does not hold what reads it: SQLMesh has dealt with that",
        {"orders": Due(waiting="signal x"), **due("daily")},
        {"daily"},
    ),
    Row(
        "a lookback alone is not repeated, and holds nothing",
        {"orders": Due((INTERVAL,), "signal x holds it", only_lookback=True), **due("daily")},
        {"daily"},
        held={"orders": "only its lookback is ready: signal x holds it"},
    ),
    Row(
        "a model whose signal raises fails; what reads it waits, also through what is not due",
        {"orders": RAISED, **due("daily", "report", "weekly", "monitor", "other")},
        {"other"},
        held={"orders": SAYS, **dict.fromkeys(("daily", "report", "weekly", "monitor"), BY_ORDERS)},
    ),
    Row(
        "a model that fails below one that fails names its own signal",
        {
            "orders": RAISED,
            "daily": replace(RAISED, failed="signal y: KeyError: 1"),
            **due("audit"),
        },
        set(),
        held={
            "orders": SAYS,
            "daily": "signal y: KeyError: 1",
            "audit": "upstream sales.daily failed: signal y: KeyError: 1",
        },
    ),
    Row(
        "what ignores its upstream does not wait for it",
        {"orders": RAISED, **due("daily")},
        {"daily"},
        held={"orders": SAYS},
        policies={"daily": Policy(waits_for_upstream=False)},
    ),
    Row(
        "a pause and a run in progress are told before it",
        {"orders": RAISED, "other": RAISED},
        set(),
        held={"orders": "paused by MODELS sales.*", "other": "run run-7 is evaluating it"},
        policies={"orders": Policy(paused=True, origins={"paused": "MODELS sales.*"})},
        in_progress={"other": "run-7"},
    ),
    Row(
        "its failed runs are told after it",
        {"orders": RAISED},
        set(),
        held={"orders": SAYS},
        failures={"orders": failed(AT)},
    ),
    Row(
        "a model that a plan has to add is not in the way",
        due("report"),
        {"report"},
        models={"orders", "report"},
    ),
    Row("a standalone audit is requested as a model is", due("daily", "audit"), {"daily", "audit"}),
    Row(
        "an asset without a condition is not requested, and named by what reads it",
        due("orders", "daily", "other"),
        {"other"},
        held={
            "orders": "not automated: its asset has no automation condition",
            "daily": "upstream sales.orders is held: not automated: "
            "its asset has no automation condition",
        },
        unautomated={"orders"},
    ),
    Row(
        "and holds nothing once a person has run it",
        due("daily"),
        {"daily"},
        unautomated={"orders"},
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_decisions(row: Row) -> None:
    check(row)


def test_reasons_read_as_sentences() -> None:
    row = Row("", {"orders": DUE, "daily": Due(waiting="signal x holds it")}, set())
    reasons = {fqn: decision.reason for fqn, decision in decisions_of(row).items()}
    assert reasons["orders"] == "due: 2026-11-23 23:00 to 2026-11-24 00:00 UTC"
    assert reasons["daily"] == "not ready: signal x holds it"
    assert reasons["report"] == "up to date; next interval at 2026-11-24 01:00:30 UTC"


def test_a_model_whose_signal_raises_is_shown_as_failed_and_held_where_it_is_paused() -> None:
    paused = {"orders": Policy(paused=True, origins={"paused": "MODELS sales.*"})}
    shown = decisions_of(Row("", {"orders": RAISED}, set()))["orders"]
    held = decisions_of(Row("", {"orders": RAISED}, set(), policies=paused))["orders"]
    assert (shown.failed, shown.reason) == (True, f"failed: {SAYS}")
    assert (held.failed, held.reason) == (False, "held: paused by MODELS sales.*")


def test_a_model_that_no_plan_has_added_is_not_called_up_to_date() -> None:
    decisions = decisions_of(Row("", {}, set(), models={"orders"}))
    assert decisions["orders"].reason.startswith("up to date")
    assert decisions["daily"].reason == "not in the SQLMesh environment: a plan has to add it"


def test_while_a_plan_is_being_applied_it_holds_all_that_the_environment_has() -> None:
    row = Row(
        "", due("orders", "daily"), set(), planned_at=None, models={"orders", "daily", "report"}
    )
    decisions = decisions_of(row)
    held = "held: plan plan-1 is being applied"
    assert [decisions[fqn].reason for fqn in ("orders", "daily", "report")] == [held] * 3
    assert decisions["orders"].held_by == "plan"
    assert decisions["weekly"].reason == "not in the SQLMesh environment: a plan has to add it"
    assert not any(decision.requested for decision in decisions.values())


def test_many_intervals_are_shortened() -> None:
    intervals = [(AT + HOUR * i, AT + HOUR * i + HOUR / 2) for i in range(5)]
    assert spoken_intervals(intervals).endswith("and 2 more")


def test_every_decision_of_a_tick_is_in_topological_order() -> None:
    assert list(decisions_of(Row("", {}, set()))) == [node.fqn for node in NODES]
