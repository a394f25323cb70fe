"""Decisions about schedules, pauses and the least gap between requests, as tables."""

from __future__ import annotations

from datetime import datetime

import pytest
from support.decisions import (
    HOUR,
    MINUTE,
    PARTIAL,
    Row,
    check,
    decisions_of,
    due,
    failed,
    moment,
)

from dagster_sqlmesh_automation.assets.definitions.policy import Policy
from dagster_sqlmesh_automation.automation.facts.facts import Limits
from dagster_sqlmesh_automation.config.cron import Schedule


def on(cron: str, tz: str = "UTC") -> dict[str, Policy]:
    """A schedule for the daily model."""
    return {"daily": Policy(schedule=Schedule(cron, tz))}


def fires(schedule: str, at: str) -> dict[str, str]:
    return {"daily": f"its schedule {schedule} fires at {at}"}


SIX = on("0 6 * * *")
SIX_NEXT = fires("0 6 * * * UTC", "2026-11-25 06:00 UTC")
GAP = {"daily": Policy(min_gap=HOUR)}
REQUESTED = {"daily"}

SCHEDULES = [
    Row(
        "what became due at midnight waits for six",
        due("daily"),
        set(),
        fires("0 6 * * * UTC", "2026-11-24 06:00 UTC"),
        policies=SIX,
        at=moment("05:59:59"),
    ),
    Row("at six it is requested", due("daily"), REQUESTED, policies=SIX, at=moment("06:00")),
    Row(
        "and at any tick after that, as after an outage of the daemon",
        due("daily"),
        REQUESTED,
        policies=SIX,
        at=moment("23:00"),
    ),
    Row(
        "several windows that were missed are one request, at once",
        due("daily", since=moment("2026-11-20 00:00")),
        REQUESTED,
        policies=SIX,
        at=moment("03:00"),
    ),
    Row(
        "what became due after the window waits for the next one",
        due("daily", since=moment("06:00:01")),
        set(),
        SIX_NEXT,
        policies=SIX,
        at=moment("23:00"),
    ),
    Row(
        "what became due with the window does not",
        due("daily", since=moment("06:00")),
        REQUESTED,
        policies=SIX,
        at=moment("06:00"),
    ),
    Row(
        "a schedule that fires more often asks as soon as SQLMesh holds it due",
        due("daily", since=moment("00:00")),
        REQUESTED,
        policies=on("* * * * *"),
        at=moment("00:00"),
    ),
    Row(
        "working days leave the weekend out",
        due("daily", since=moment("2026-11-28 00:00")),
        set(),
        fires("0 6 * * 1-5 UTC", "2026-11-30 06:00 UTC"),
        policies=on("0 6 * * 1-5"),
        at=moment("2026-11-29 12:00"),
    ),
    Row(
        "a schedule in its own zone, told in the zone of the settings",
        due("daily"),
        set(),
        fires("0 6 * * * Europe/Berlin", "2026-11-24 00:00 EST"),
        policies=on("0 6 * * *", "Europe/Berlin"),
        limits=Limits(executions=4, zone="America/New_York"),
        at=moment("04:59"),
    ),
    Row(
        "the 31st, in a short month",
        due("daily", since=moment("2027-02-01 00:00")),
        set(),
        fires("0 6 31 * * UTC", "2027-03-31 06:00 UTC"),
        policies=on("0 6 31 * *"),
        at=moment("2027-02-28 23:59"),
    ),
    Row(
        "29 February",
        due("daily", since=moment("2028-02-01 00:00")),
        REQUESTED,
        policies=on("0 6 29 2 *"),
        at=moment("2028-02-29 06:00"),
    ),
    # Days on which the clock changes
    Row(
        "Berlin, spring: a time that does not exist is the jump",
        due("daily", since=moment("2026-03-29 00:00")),
        set(),
        fires("30 2 * * * Europe/Berlin", "2026-03-29 01:00 UTC"),
        policies=on("30 2 * * *", "Europe/Berlin"),
        at=moment("2026-03-29 00:59"),
    ),
    Row(
        "Berlin, spring: at the jump",
        due("daily", since=moment("2026-03-29 00:00")),
        REQUESTED,
        policies=on("30 2 * * *", "Europe/Berlin"),
        at=moment("2026-03-29 01:00"),
    ),
    Row(
        "New York, autumn: the second time counts for nothing",
        due("daily", since=moment("2026-11-01 05:31")),
        set(),
        fires("30 1 * * * America/New_York", "2026-11-02 06:30 UTC"),
        policies=on("30 1 * * *", "America/New_York"),
        at=moment("2026-11-01 06:30"),
    ),
    Row(
        "Lord Howe, autumn: every hour, both times",
        due("daily", since=moment("2026-04-04 14:46")),
        REQUESTED,
        policies=on("45 * * * *", "Australia/Lord_Howe"),
        at=moment("2026-04-04 15:15"),
    ),
    Row(
        "a model without a schedule is requested whenever it is due",
        due("daily", "other"),
        {"other"},
        fires("0 6 * * * UTC", "2026-11-24 06:00 UTC"),
        policies=SIX,
    ),
]

PAUSES = [
    Row(
        "off in the cron map",
        due("daily"),
        set(),
        {"daily": "paused by CRON_MAP @daily"},
        policies={"daily": Policy(paused=True, origins={"schedule": "CRON_MAP @daily"})},
    ),
    Row(
        "paused by a rule",
        due("daily"),
        set(),
        {"daily": "paused by MODELS sales.*"},
        policies={
            "daily": Policy(
                schedule=Schedule("* * * * *", "UTC"),
                paused=True,
                origins={"schedule": "CRON_MAP @daily", "paused": "MODELS sales.*"},
            )
        },
    ),
]

PARTIALS = [
    Row(
        "a partial interval is due at every tick, and requested once for each window",
        {"daily": PARTIAL},
        REQUESTED,
        policies=SIX,
        evaluated_at={"daily": moment("2026-11-23 06:00:20")},
        at=moment("06:00"),
    ),
    Row(
        "not again in the same window",
        {"daily": PARTIAL},
        set(),
        SIX_NEXT,
        policies=SIX,
        evaluated_at={"daily": moment("06:00:20")},
        at=moment("06:10"),
    ),
    Row(
        "also where the run began at the very moment",
        {"daily": PARTIAL},
        set(),
        SIX_NEXT,
        policies=SIX,
        evaluated_at={"daily": moment("06:00")},
        at=moment("06:00"),
    ),
    Row(
        "before its first run the plan counts",
        {"daily": PARTIAL},
        set(),
        SIX_NEXT,
        policies=SIX,
        planned_at=moment("06:05"),
        at=moment("12:00"),
    ),
    Row(
        "and an old plan holds nothing",
        {"daily": PARTIAL},
        REQUESTED,
        policies=SIX,
        planned_at=moment("2026-11-23 06:05"),
        at=moment("12:00"),
    ),
    Row(
        "a failure is tried again in its window",
        {"daily": PARTIAL},
        REQUESTED,
        policies=SIX,
        failures={"daily": failed(moment("06:00:10"))},
        requested_at={"daily": moment("06:00:10")},
        evaluated_at={"daily": moment("2026-11-23 06:00:20")},
        at=moment("06:05:10"),
    ),
    Row(
        "without a schedule it is requested at every tick",
        {"daily": PARTIAL},
        REQUESTED,
        evaluated_at={"daily": moment("06:00")},
        at=moment("06:00:30"),
    ),
]

GAPS = [
    Row(
        "at most one request in an hour",
        due("daily"),
        set(),
        {"daily": "at most one request in 1:00:00; not before 2026-11-24 06:30 UTC"},
        policies=GAP,
        requested_at={"daily": moment("05:30")},
        at=moment("06:29:59"),
    ),
    Row(
        "after the hour it is requested",
        due("daily"),
        REQUESTED,
        policies=GAP,
        requested_at={"daily": moment("05:30")},
        at=moment("06:30"),
    ),
    Row("the first request waits for nothing", due("daily"), REQUESTED, policies=GAP),
    Row(
        "a retry keeps the gap",
        due("daily"),
        set(),
        {"daily": "at most one request in 1:00:00; not before 2026-11-24 06:30:05 UTC"},
        policies=GAP,
        failures={"daily": failed(moment("05:30:05"))},
        requested_at={"daily": moment("05:30:05")},
        at=moment("05:40"),
    ),
    Row(
        "both a schedule and a gap have to allow it",
        due("daily"),
        set(),
        {"daily": "at most one request in 8:00:00; not before 2026-11-24 07:00 UTC"},
        policies={"daily": Policy(schedule=Schedule("0 6 * * *", "UTC"), min_gap=8 * HOUR)},
        requested_at={"daily": moment("2026-11-23 23:00")},
        at=moment("06:00"),
    ),
]


@pytest.mark.parametrize("row", [*SCHEDULES, *PAUSES, *PARTIALS, *GAPS], ids=lambda row: row.name)
def test_schedules(row: Row) -> None:
    check(row)


def test_every_minute_of_a_day_of_25_hours_makes_one_request_a_day() -> None:
    """Due at each midnight in Berlin, mapped to six o'clock there."""
    midnights = [moment("2026-10-24 22:00"), moment("2026-10-25 23:00")]
    requested: list[datetime] = []
    for minutes in range(48 * 60):
        at = moment("2026-10-24 12:00") + minutes * MINUTE
        since = [each for each in midnights if each <= at and not any(r > each for r in requested)]
        if since:
            row = Row("", due("daily", since=since[0]), set(), at=at)
            row.policies = on("0 6 * * *", "Europe/Berlin")
            if decisions_of(row)["daily"].requested:
                requested.append(at)
    assert requested == [moment("2026-10-25 05:00"), moment("2026-10-26 05:00")]
