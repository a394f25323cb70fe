"""Decisions about models that wait for others, as tables."""

from __future__ import annotations

import pytest
from support.decisions import Row, check, due, failed, moment

from dagster_sqlmesh_automation.assets.definitions.policy import Policy
from dagster_sqlmesh_automation.config.cron import Schedule

PAUSED = Policy(paused=True, origins={"paused": "MODELS sales.*"})
IGNORE = Policy(waits_for_upstream=False)
WHY = "paused by MODELS sales.*"
BY_ORDERS = f"upstream sales.orders is held: {WHY}"
BY_RUN = "upstream sales.orders is being evaluated by run run-7"

HELD = [
    Row("parent and child are one request", due("orders", "daily"), {"orders", "daily"}),
    Row(
        "a paused parent holds its child, and is named",
        due("orders", "daily", "other"),
        {"other"},
        {"orders": WHY, "daily": BY_ORDERS},
        policies={"orders": PAUSED},
    ),
    Row("only while it is due", due("daily"), {"daily"}, policies={"orders": PAUSED}),
    Row(
        "a parent whose window is closed",
        due("orders", "daily"),
        set(),
        {
            "orders": "its schedule 0 6 * * * UTC fires at 2026-11-24 06:00 UTC",
            "daily": "upstream sales.orders is held: "
            "its schedule 0 6 * * * UTC fires at 2026-11-24 06:00 UTC",
        },
        policies={"orders": Policy(schedule=Schedule("0 6 * * *", "UTC"))},
    ),
    Row(
        "a parent that fails",
        due("orders", "daily"),
        set(),
        {
            "orders": "failed in run run-1; attempt 2 of 3 at 2026-11-24 00:05 UTC",
            "daily": "upstream sales.orders is held: "
            "failed in run run-1; attempt 2 of 3 at 2026-11-24 00:05 UTC",
        },
        failures={"orders": failed(moment("00:00"))},
    ),
    Row(
        "all the way down",
        due("orders", "daily", "report", "weekly", "monitor", "audit"),
        set(),
        {
            "orders": WHY,
            **dict.fromkeys(("daily", "report", "weekly", "monitor", "audit"), BY_ORDERS),
        },
        policies={"orders": PAUSED},
    ),
    Row(
        "through a model that is not due",
        due("orders", "report"),
        set(),
        {"orders": WHY, "report": BY_ORDERS},
        policies={"orders": PAUSED},
    ),
]

RUNNING = [
    Row(
        "a model waits while a run evaluates it",
        due("orders", "other"),
        {"other"},
        {"orders": "run run-7 is evaluating it"},
        in_progress={"orders": "run-7"},
    ),
    Row(
        "what reads it waits as well, however far, also where it is not due itself",
        due("report", "audit", "other"),
        {"other"},
        {"report": BY_RUN, "audit": BY_RUN},
        in_progress={"orders": "run-7"},
    ),
    Row(
        "what it reads waits: it would change under the run",
        due("orders", "daily", "other"),
        {"other"},
        dict.fromkeys(("orders", "daily"), "run run-7 is evaluating sales.report, which reads it"),
        in_progress={"report": "run-7"},
    ),
    Row(
        "and so does what reads that",
        due("orders", "weekly"),
        set(),
        {
            "orders": "run run-7 is evaluating sales.report, which reads it",
            "weekly": "upstream sales.orders is held: "
            "run run-7 is evaluating sales.report, which reads it",
        },
        in_progress={"report": "run-7"},
    ),
    Row(
        "where that is not due, its other readers do not wait",
        due("weekly", "other"),
        {"weekly", "other"},
        in_progress={"report": "run-7"},
    ),
]

IGNORED = [
    Row(
        "a model that ignores its parents is requested without them",
        due("orders", "daily"),
        {"daily"},
        {"orders": WHY},
        policies={"orders": PAUSED, "daily": IGNORE},
    ),
    Row(
        "also while a run evaluates them",
        due("daily"),
        {"daily"},
        policies={"daily": IGNORE},
        in_progress={"orders": "run-7"},
    ),
    Row(
        "but not while a run evaluates it",
        due("daily"),
        set(),
        {"daily": "run run-7 is evaluating it"},
        policies={"daily": IGNORE},
        in_progress={"daily": "run-7"},
    ),
    Row(
        "in the middle of a chain it holds nothing below",
        due("orders", "daily", "report"),
        {"daily", "report"},
        {"orders": WHY},
        policies={"orders": PAUSED, "daily": IGNORE},
    ),
    Row(
        "nor where it is not due itself",
        due("orders", "report"),
        {"report"},
        {"orders": WHY},
        policies={"orders": PAUSED, "daily": IGNORE},
    ),
    Row(
        "what is beside it in the graph waits all the same",
        due("orders", "daily", "weekly"),
        {"daily"},
        {"orders": WHY, "weekly": BY_ORDERS},
        policies={"orders": PAUSED, "daily": IGNORE},
    ),
    Row(
        "at the end of a chain the others wait",
        due("orders", "daily", "report"),
        {"report"},
        {"orders": WHY, "daily": BY_ORDERS},
        policies={"orders": PAUSED, "report": IGNORE},
    ),
    Row(
        "where it is held itself, that holds what reads it",
        due("orders", "daily", "report"),
        {"orders"},
        {
            "daily": "paused by MODELS sales.daily",
            "report": "upstream sales.daily is held: paused by MODELS sales.daily",
        },
        policies={
            "daily": Policy(
                paused=True, waits_for_upstream=False, origins={"paused": "MODELS sales.daily"}
            )
        },
    ),
]

CADENCES = [
    Row("hourly does not wait for weekly that is not due", due("monitor"), {"monitor"}),
    Row(
        "where both are due, they are one request", due("weekly", "monitor"), {"weekly", "monitor"}
    ),
    Row(
        "hourly waits for weekly that is due and held",
        due("weekly", "monitor"),
        set(),
        {"weekly": WHY, "monitor": f"upstream sales.weekly is held: {WHY}"},
        policies={"weekly": PAUSED},
    ),
    Row(
        "weekly waits for hourly that is due and held",
        due("orders", "weekly"),
        set(),
        {"orders": WHY, "weekly": BY_ORDERS},
        policies={"orders": PAUSED},
    ),
    Row("weekly does not wait for hourly that is not due", due("weekly"), {"weekly"}),
    Row(
        "another zone is another matter",
        due("orders", "other"),
        {"other"},
        {"orders": WHY},
        policies={"orders": PAUSED},
    ),
]


@pytest.mark.parametrize("row", [*HELD, *RUNNING, *IGNORED, *CADENCES], ids=lambda row: row.name)
def test_upstream(row: Row) -> None:
    check(row)
