"""The moments of cron expressions as a table: months, leap years, and changes of the clock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from dagster_sqlmesh_automation.config.cron import next_tick

NEW_YORK, BERLIN, LORD_HOWE = "America/New_York", "Europe/Berlin", "Australia/Lord_Howe"


@dataclass
class Row:
    """A cron expression, and its moments that follow a given one; all in UTC."""

    name: str
    cron: str
    tz: str | None
    after: str
    ticks: list[str]


ROWS = [
    # Without a change of the clock
    Row("UTC where no zone is given", "0 6 * * *", None, "2026-05-04 05:59", ["2026-05-04 06:00"]),
    Row(
        "later than given, never equal", "0 6 * * *", None, "2026-05-04 06:00", ["2026-05-05 06:00"]
    ),
    Row(
        "aliases",
        "@weekly",
        None,
        "2026-05-04 00:00",
        ["2026-05-10 00:00", "2026-05-17 00:00"],
    ),
    Row(
        "a zone a quarter of an hour off",
        "0 6 * * *",
        "Asia/Kathmandu",
        "2026-05-04 00:00",
        ["2026-05-04 00:15", "2026-05-05 00:15"],
    ),
    Row(
        "an hour of such a zone begins at a quarter past",
        "@hourly",
        "Asia/Kathmandu",
        "2026-05-04 00:20",
        ["2026-05-04 01:15", "2026-05-04 02:15"],
    ),
    Row(
        "working days by number",
        "0 6 * * 1-5",
        BERLIN,
        "2026-05-08 04:00",
        ["2026-05-11 04:00"],
    ),
    Row("and by name", "0 6 * * mon-fri", BERLIN, "2026-05-08 04:00", ["2026-05-11 04:00"]),
    Row("Sunday is 0", "0 0 * * 0", None, "2026-05-04 00:00", ["2026-05-10 00:00"]),
    Row("Sunday is also 7", "0 0 * * 7", None, "2026-05-04 00:00", ["2026-05-10 00:00"]),
    Row(
        "a day of the month or of the week, where both are given",
        "0 0 15 * 1",
        None,
        "2026-06-09 00:00",
        ["2026-06-15 00:00", "2026-06-22 00:00", "2026-06-29 00:00"],
    ),
    # Ends of months
    Row(
        "the 31st leaves shorter months out",
        "0 0 31 * *",
        None,
        "2026-01-31 00:00",
        ["2026-03-31 00:00", "2026-05-31 00:00", "2026-07-31 00:00", "2026-08-31 00:00"],
    ),
    Row(
        "the 30th leaves February out",
        "0 0 30 * *",
        None,
        "2026-01-30 00:00",
        ["2026-03-30 00:00"],
    ),
    Row(
        "the first of a month, in the last one by UTC",
        "@monthly",
        BERLIN,
        "2026-02-01 00:00",
        ["2026-02-28 23:00", "2026-03-31 22:00"],
    ),
    Row(
        "29 February waits for a leap year",
        "0 0 29 2 *",
        None,
        "2026-03-01 00:00",
        ["2028-02-29 00:00", "2032-02-29 00:00"],
    ),
    Row(
        "which can be eight years",
        "0 0 29 2 *",
        None,
        "2096-02-29 00:00",
        ["2104-02-29 00:00"],
    ),
    Row(
        "29 February begins on the 28th by UTC",
        "0 0 29 2 *",
        BERLIN,
        "2026-03-01 00:00",
        ["2028-02-28 23:00"],
    ),
    Row("once a year", "@yearly", NEW_YORK, "2026-01-01 05:00", ["2027-01-01 05:00"]),
    # Spring: the clock jumps over a time
    Row(
        "New York, spring: the hour before and after the jump",
        "30 1,3 * * *",
        NEW_YORK,
        "2026-03-08 05:00",
        ["2026-03-08 06:30", "2026-03-08 07:30", "2026-03-09 05:30"],
    ),
    Row(
        "New York, spring: a time that does not exist is the jump",
        "30 2 * * *",
        NEW_YORK,
        "2026-03-07 12:00",
        ["2026-03-08 07:00", "2026-03-09 06:30"],
    ),
    Row(
        "New York, spring: two such times are one jump",
        "15,45 2 * * *",
        NEW_YORK,
        "2026-03-08 06:59",
        ["2026-03-08 07:00", "2026-03-09 06:15"],
    ),
    Row(
        "New York, spring: every hour stays every hour",
        "@hourly",
        NEW_YORK,
        "2026-03-08 05:00",
        ["2026-03-08 06:00", "2026-03-08 07:00", "2026-03-08 08:00"],
    ),
    Row(
        "New York, spring: a day of 23 hours",
        "@daily",
        NEW_YORK,
        "2026-03-08 04:59",
        ["2026-03-08 05:00", "2026-03-09 04:00"],
    ),
    Row(
        "New York, spring: asked at the jump",
        "30 2 * * *",
        NEW_YORK,
        "2026-03-08 07:00",
        ["2026-03-09 06:30"],
    ),
    Row(
        "Berlin, spring: a time that does not exist is the jump",
        "30 2 * * *",
        BERLIN,
        "2026-03-28 12:00",
        ["2026-03-29 01:00", "2026-03-30 00:30"],
    ),
    Row(
        "Lord Howe, spring: half an hour is left out",
        "15 2 * * *",
        LORD_HOWE,
        "2026-10-03 00:00",
        ["2026-10-03 15:30", "2026-10-04 15:15"],
    ),
    Row(
        "Lord Howe, spring: the other half is there",
        "45 2 * * *",
        LORD_HOWE,
        "2026-10-03 00:00",
        ["2026-10-03 15:45", "2026-10-04 15:45"],
    ),
    Row(
        "Santiago, spring: midnight does not exist",
        "@daily",
        "America/Santiago",
        "2026-09-05 04:00",
        ["2026-09-06 04:00", "2026-09-07 03:00"],
    ),
    # Autumn: the clock shows a time twice
    Row(
        "New York, autumn: fixed hours fire the first time only",
        "30 1 * * *",
        NEW_YORK,
        "2026-11-01 00:00",
        ["2026-11-01 05:30", "2026-11-02 06:30"],
    ),
    Row(
        "New York, autumn: every hour fires both times",
        "30 * * * *",
        NEW_YORK,
        "2026-11-01 04:30",
        ["2026-11-01 05:30", "2026-11-01 06:30", "2026-11-01 07:30"],
    ),
    Row(
        "New York, autumn: so does every other hour",
        "0 */1 * * *",
        NEW_YORK,
        "2026-11-01 04:59",
        ["2026-11-01 05:00", "2026-11-01 06:00", "2026-11-01 07:00"],
    ),
    Row(
        "New York, autumn: minutes of a fixed hour fire the first time only",
        "*/30 1 * * *",
        NEW_YORK,
        "2026-11-01 04:00",
        ["2026-11-01 05:00", "2026-11-01 05:30", "2026-11-02 06:00"],
    ),
    Row(
        "New York, autumn: asked between the two",
        "15 * * * *",
        NEW_YORK,
        "2026-11-01 05:50",
        ["2026-11-01 06:15", "2026-11-01 07:15"],
    ),
    Row(
        "New York, autumn: a day of 25 hours",
        "@daily",
        NEW_YORK,
        "2026-10-31 12:00",
        ["2026-11-01 04:00", "2026-11-02 05:00"],
    ),
    Row(
        "Berlin, autumn: fixed hours fire the first time only",
        "30 2 * * *",
        BERLIN,
        "2026-10-24 12:00",
        ["2026-10-25 00:30", "2026-10-26 01:30"],
    ),
    Row(
        "Lord Howe, autumn: half an hour is there twice",
        "45 * * * *",
        LORD_HOWE,
        "2026-04-04 14:00",
        ["2026-04-04 14:45", "2026-04-04 15:15", "2026-04-04 16:15"],
    ),
    Row(
        "Lord Howe, autumn: the other half once",
        "15 * * * *",
        LORD_HOWE,
        "2026-04-04 14:00",
        ["2026-04-04 14:15", "2026-04-04 15:45", "2026-04-04 16:45"],
    ),
    Row(
        "Lord Howe, autumn: fixed hours fire the first time only",
        "45 1 * * *",
        LORD_HOWE,
        "2026-04-04 14:00",
        ["2026-04-04 14:45", "2026-04-05 15:15"],
    ),
]


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_moments_of_a_cron(row: Row) -> None:
    found, after = [], moment(row.after)
    for _ in row.ticks:
        after = next_tick(row.cron, after, row.tz)
        found.append(f"{after:%Y-%m-%d %H:%M}")
    assert found == row.ticks
