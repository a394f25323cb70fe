"""Decisions about models that failed, as tables."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.decisions import HOUR, MINUTE, Row, check, due, failed, moment

from dagster_sqlmesh_automation.assets.definitions.policy import Policy
from dagster_sqlmesh_automation.config.cron import Schedule
from dagster_sqlmesh_automation.config.rules import RetrySettings

SIX = {"daily": Policy(schedule=Schedule("0 6 * * *", "UTC"))}
SIX_TODAY = {"daily": "its schedule 0 6 * * * UTC fires at 2026-11-24 06:00 UTC"}
REQUESTED = {"daily"}


def retry(**values: int) -> dict[str, Policy]:
    """Retries of the daily model."""
    return {"daily": Policy(retry=RetrySettings(**values))}


def waits(text: str) -> dict[str, str]:
    return {"daily": text}


ATTEMPTS = [
    Row(
        "five minutes after its first failure",
        due("daily"),
        set(),
        waits("failed in run run-1; attempt 2 of 3 at 2026-11-24 06:05 UTC"),
        failures={"daily": failed(moment("06:00"))},
        at=moment("06:04:59"),
    ),
    Row(
        "and no later",
        due("daily"),
        REQUESTED,
        failures={"daily": failed(moment("06:00"))},
        at=moment("06:05"),
    ),
    Row(
        "twice as long after its second",
        due("daily"),
        set(),
        waits("audit failed in run run-2; attempt 3 of 3 at 2026-11-24 06:16 UTC"),
        failures={"daily": failed(moment("06:00"), moment("06:06"), why="audit failed")},
        at=moment("06:15:59"),
    ),
    Row(
        "after its last attempt it waits for its next cron tick",
        due("daily"),
        set(),
        waits(
            "failed in run run-3, attempt 3 of 3; "
            "tried again at its next cron tick, 2026-11-25 00:00 UTC"
        ),
        failures={"daily": failed(*(moment(f"06:{m}0") for m in (0, 1, 3)))},
        at=moment("23:59:59"),
    ),
    Row(
        "at which it is tried again",
        due("daily"),
        REQUESTED,
        failures={"daily": failed(*(moment(f"06:{m}0") for m in (0, 1, 3)))},
        at=moment("2026-11-25 00:00"),
    ),
    Row(
        "and has all its attempts anew",
        due("daily"),
        set(),
        waits("failed in run run-4; attempt 2 of 3 at 2026-11-25 00:06 UTC"),
        failures={
            "daily": failed(*(moment(f"06:{m}0") for m in (0, 1, 3)), moment("2026-11-25 00:01"))
        },
        at=moment("2026-11-25 00:05:59"),
    ),
    Row(
        "the next cron tick is that of the model's own zone",
        due("other"),
        set(),
        {
            "other": "failed in run run-3, attempt 3 of 3; "
            "tried again at its next cron tick, 2026-11-24 23:00 UTC"
        },
        failures={"other": failed(*(moment(f"06:{m}0") for m in (0, 1, 3)))},
        at=moment("22:59"),
    ),
    Row(
        "a failure of the day before holds nothing",
        due("daily"),
        REQUESTED,
        failures={"daily": failed(moment("2026-11-23 23:59:59"))},
        at=moment("00:00"),
    ),
    Row(
        "a cron tick comes before the delay is over",
        due("orders"),
        set(),
        {"orders": "failed in run run-1; attempt 2 of 3 at 2026-11-24 07:00 UTC"},
        failures={"orders": failed(moment("06:58"))},
        at=moment("06:59"),
    ),
    Row(
        "a run that went on over a cron tick does not hold what that made due",
        due("orders"),
        {"orders"},
        failures={"orders": [replace(failed(moment("06:50"))[0], ended=moment("07:10"))]},
        at=moment("07:10"),
    ),
    Row(
        "the delay begins when a run ends",
        due("daily"),
        set(),
        waits("failed in run run-1; attempt 2 of 3 at 2026-11-24 06:35 UTC"),
        failures={"daily": [replace(failed(moment("06:00"))[0], ended=moment("06:30"))]},
        at=moment("06:34"),
    ),
    Row(
        "an old failure of a model that is no longer due holds nothing",
        due("daily"),
        REQUESTED,
        failures={"orders": failed(moment("06:00"))},
        at=moment("06:01"),
    ),
    Row(
        "what reads it waits with it, and is told when",
        due("orders", "daily", "report"),
        set(),
        {
            "orders": "failed in run run-1; attempt 2 of 3 at 2026-11-24 06:05 UTC",
            **dict.fromkeys(
                ("daily", "report"),
                "upstream sales.orders is held: "
                "failed in run run-1; attempt 2 of 3 at 2026-11-24 06:05 UTC",
            ),
        },
        failures={"orders": failed(moment("06:00"))},
        at=moment("06:01"),
    ),
]

SETTINGS = [
    Row(
        "no retry",
        due("daily"),
        set(),
        waits(
            "failed in run run-1, attempt 1 of 1; "
            "tried again at its next cron tick, 2026-11-25 00:00 UTC"
        ),
        failures={"daily": failed(moment("06:00"))},
        policies=retry(max_attempts=1),
        at=moment("12:00"),
    ),
    Row(
        "no delay",
        due("daily"),
        REQUESTED,
        failures={"daily": failed(moment("06:00"), moment("06:00:01"))},
        policies=retry(delay_seconds=0),
        at=moment("06:00:01"),
    ),
    Row(
        "the delay doubles each time",
        due("daily"),
        set(),
        waits("failed in run run-5; attempt 6 of 9 at 2026-11-24 06:20 UTC"),
        failures={"daily": failed(*(moment(f"06:0{m}") for m in range(5)))},
        policies=retry(max_attempts=9, delay_seconds=60),
        at=moment("06:19"),
    ),
    Row(
        "up to a limit",
        due("daily"),
        set(),
        waits("failed in run run-5; attempt 6 of 9 at 2026-11-24 06:14 UTC"),
        failures={"daily": failed(*(moment(f"06:0{m}") for m in range(5)))},
        policies=retry(max_attempts=9, delay_seconds=60, max_delay_seconds=600),
        at=moment("06:13"),
    ),
    Row(
        "after ever so many",
        due("daily"),
        REQUESTED,
        failures={"daily": failed(*(moment("06:00") + n * MINUTE for n in range(99)))},
        policies=retry(max_attempts=100, delay_seconds=60, max_delay_seconds=60),
        at=moment("06:00") + 99 * MINUTE,
    ),
]

PLANS = [
    Row(
        "a new plan allows another attempt at once",
        due("daily"),
        REQUESTED,
        failures={"daily": failed(*(moment(f"06:{m}0") for m in (0, 1, 3)))},
        planned_at=moment("06:31"),
        at=moment("06:31"),
    ),
    Row(
        "and what was before it counts no more",
        due("daily"),
        set(),
        waits("failed in run run-4; attempt 2 of 3 at 2026-11-24 06:45 UTC"),
        failures={"daily": failed(*(moment(f"06:{m}0") for m in (0, 1, 3, 4)))},
        planned_at=moment("06:31"),
        at=moment("06:44"),
    ),
    Row(
        "nor does one that was cancelled",
        due("daily"),
        REQUESTED,
        failures={"daily": failed(moment("06:00"), why="cancelled", retried=False)},
        planned_at=moment("06:00") + HOUR,
        at=moment("07:00"),
    ),
]

WITH_SCHEDULE = [
    Row(
        "a failure is tried again without waiting for another window",
        due("daily"),
        REQUESTED,
        policies=SIX,
        failures={"daily": failed(moment("06:00:10"))},
        at=moment("06:05:10"),
    ),
    Row(
        "after its last attempt it waits for the window that follows its next cron tick",
        due("daily", since=moment("2026-11-23 00:00")),
        set(),
        {
            "daily": "failed in run run-3, attempt 3 of 3; "
            "tried again after its next cron tick, 2026-11-24 06:00 UTC"
        },
        policies=SIX,
        failures={"daily": failed(*(moment(f"2026-11-23 06:{m}0") for m in (0, 1, 2)))},
        at=moment("2026-11-23 12:00"),
    ),
    Row(
        "the cron tick alone is not enough",
        due("daily", since=moment("2026-11-23 00:00")),
        set(),
        SIX_TODAY,
        policies=SIX,
        failures={"daily": failed(*(moment(f"2026-11-23 06:{m}0") for m in (0, 1, 2)))},
        at=moment("00:30"),
    ),
    Row(
        "in that window it is requested",
        due("daily", since=moment("2026-11-23 00:00")),
        REQUESTED,
        policies=SIX,
        failures={"daily": failed(*(moment(f"2026-11-23 06:{m}0") for m in (0, 1, 2)))},
        at=moment("06:00"),
    ),
    Row(
        "one that was cancelled, too",
        due("daily", since=moment("2026-11-23 00:00")),
        set(),
        SIX_TODAY,
        policies=SIX,
        failures={"daily": failed(moment("2026-11-23 06:00"), why="cancelled", retried=False)},
        at=moment("05:59"),
    ),
    Row(
        "one with attempts left does not wait after its next cron tick",
        due("daily", since=moment("2026-11-23 00:00")),
        REQUESTED,
        policies=SIX,
        failures={"daily": failed(moment("2026-11-23 23:59"))},
        at=moment("00:00"),
    ),
]


@pytest.mark.parametrize(
    "row",
    [*ATTEMPTS, *SETTINGS, *PLANS, *WITH_SCHEDULE],
    ids=lambda row: row.name,
)
def test_retries(row: Row) -> None:
    check(row)
