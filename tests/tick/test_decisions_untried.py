"""Decisions about models that a run did not try, or whose run was cancelled, as a table."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.decisions import MINUTE, Row, check, due, failed, moment

REQUESTED = {"daily"}


def waits(text: str) -> dict[str, str]:
    return {"daily": text}


NOT_TRIED = [
    Row(
        "one that its run did not even try is requested again at once",
        due("daily"),
        REQUESTED,
        failures={"daily": failed(moment("06:00"), tried=False)},
        at=moment("06:00"),
    ),
    Row(
        "the second time after a minute",
        due("daily"),
        set(),
        waits("not evaluated in run run-2; tried again at 2026-11-24 06:02 UTC"),
        failures={
            "daily": failed(moment("06:00"), moment("06:01"), why="not evaluated", tried=False)
        },
        at=moment("06:01:59"),
    ),
    Row(
        "then twice as long each time",
        due("daily"),
        REQUESTED,
        failures={"daily": failed(*(moment(f"06:0{m}") for m in range(5)), tried=False)},
        at=moment("06:12"),
    ),
    Row(
        "up to an hour",
        due("daily"),
        set(),
        waits("failed in run run-20; tried again at 2026-11-24 07:19 UTC"),
        failures={"daily": failed(*(moment("06:00") + n * MINUTE for n in range(20)), tried=False)},
        at=moment("07:18"),
    ),
    Row(
        "and no longer than until its next cron tick",
        due("daily"),
        REQUESTED,
        failures={
            "daily": failed(
                *(moment("2026-11-23 23:30") + n * MINUTE for n in range(20)), tried=False
            )
        },
        at=moment("00:00"),
    ),
    Row(
        "it is no attempt: the one that follows is still the second",
        due("daily"),
        set(),
        waits("not evaluated in run run-9; attempt 2 of 3 at 2026-11-24 06:05 UTC"),
        failures={
            "daily": [
                replace(
                    failed(moment("06:01"), why="not evaluated", tried=False)[0], run_id="run-9"
                ),
                *failed(moment("06:00")),
            ]
        },
        at=moment("06:04"),
    ),
    Row(
        "of both delays the longer one counts",
        due("daily"),
        set(),
        waits("not evaluated in run run-2; attempt 2 of 3 at 2026-11-24 06:06 UTC"),
        failures={
            "daily": [
                *failed(moment("06:04"), moment("06:05"), why="not evaluated", tried=False),
                *failed(moment("06:00")),
            ]
        },
        at=moment("06:05:59"),
    ),
    Row(
        "a failure after runs that did not try it has its own delay",
        due("daily"),
        set(),
        waits("failed in run run-7; attempt 2 of 3 at 2026-11-24 06:08 UTC"),
        failures={
            "daily": [
                replace(failed(moment("06:03"))[0], run_id="run-7"),
                *failed(moment("06:00"), moment("06:01"), why="not evaluated", tried=False),
            ]
        },
        at=moment("06:07"),
    ),
    Row(
        "one whose run a person has cancelled waits for its next cron tick",
        due("daily"),
        set(),
        waits("cancelled in run run-1; tried again at its next cron tick, 2026-11-25 00:00 UTC"),
        failures={"daily": failed(moment("06:00"), why="cancelled", retried=False)},
        at=moment("23:59"),
    ),
    Row(
        "also after a failure",
        due("daily"),
        set(),
        waits("cancelled in run run-1; tried again at its next cron tick, 2026-11-25 00:00 UTC"),
        failures={
            "daily": [
                *failed(moment("06:05"), why="cancelled", retried=False),
                *failed(moment("06:00")),
            ]
        },
        at=moment("06:10"),
    ),
    Row(
        "a cron tick ends that",
        due("daily"),
        REQUESTED,
        failures={"daily": failed(moment("06:00"), why="cancelled", retried=False)},
        at=moment("2026-11-25 00:00"),
    ),
]


@pytest.mark.parametrize("row", NOT_TRIED, ids=lambda row: row.name)
def test_models_that_were_not_tried(row: Row) -> None:
    check(row)
