"""Cron expressions: how they are written, and their moments against a search by the minute."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings, strategies as st

from dagster_sqlmesh_automation.config.cron import (
    OFF,
    Schedule,
    canonical,
    check_cron,
    check_zone,
    next_tick,
    split_schedule,
)

NEW_YORK, BERLIN, LORD_HOWE = "America/New_York", "Europe/Berlin", "Australia/Lord_Howe"
MINUTE = timedelta(minutes=1)


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_two_equal_times_on_the_clock_are_two_moments() -> None:
    first = datetime(2026, 11, 1, 1, 30, tzinfo=ZoneInfo(NEW_YORK))
    second = first.replace(fold=1)

    assert next_tick("@hourly", first) == moment("2026-11-01 06:00")
    assert next_tick("@hourly", second) == moment("2026-11-01 07:00")
    schedule = Schedule("@hourly", "UTC")
    assert schedule.opens(first) == moment("2026-11-01 06:00")
    assert schedule.opens(second) == moment("2026-11-01 07:00")


def test_a_moment_is_in_utc_whatever_zone_it_was_asked_in() -> None:
    asked = datetime(2026, 5, 4, 8, 0, tzinfo=ZoneInfo("Asia/Kathmandu"))
    assert next_tick("@hourly", asked).tzinfo is UTC
    assert next_tick("@hourly", asked) == moment("2026-05-04 03:00")


@pytest.mark.parametrize(
    ("since", "opens"),
    [
        pytest.param("2026-05-04 04:00", "2026-05-04 04:00", id="a moment of its own"),
        pytest.param("2026-05-04 04:00:00.000001", "2026-05-05 04:00", id="just after one"),
        pytest.param("2026-05-04 03:59:59", "2026-05-04 04:00", id="just before one"),
        pytest.param("2026-10-25 12:00", "2026-10-26 05:00", id="an hour later in winter"),
    ],
)
def test_a_schedule_opens_at_or_after_a_moment(since: str, opens: str) -> None:
    assert Schedule("0 6 * * *", BERLIN).opens(moment(since)) == moment(opens)


@pytest.mark.parametrize(
    ("spellings", "differ"),
    [
        (["@daily", "@midnight", "@DAILY", "0 0 * * *", "00 0 */1 1-12 *"], "0 1 * * *"),
        (["@hourly", "0 * * * *", "0 0-23 * * *", "0  */1  * * *"], "0 */2 * * *"),
        (["@weekly", "0 0 * * 0", "0 0 * * 7", "0 0 * * SUN"], "0 0 * * 1"),
        (["@monthly", "0 0 1 * *"], "0 0 2 * *"),
        (["@yearly", "@annually", "0 0 1 1 *", "0 0 1 JAN *"], "0 0 1 2 *"),
        (["0 6 * * 1-5", "0 6 * * mon-fri", "0 6 * * 5,4,3,2,1"], "0 6 * * 1-6"),
        (["*/15 * * * *", "0,15,30,45 * * * *", "45,30,15,0 * * * *"], "*/20 * * * *"),
        (["0 0 * * 1#2,L1", "0 0 * * L1,mon#2"], "0 0 * * 1"),
    ],
)
def test_spellings_of_a_cron_are_alike(spellings: list[str], differ: str) -> None:
    assert {canonical(each) for each in spellings} == {canonical(spellings[0])}
    assert canonical(differ) != canonical(spellings[0])


@pytest.mark.parametrize(
    ("text", "cron", "zone"),
    [
        ("@daily", "@daily", None),
        ("@daily Europe/Berlin", "@daily", BERLIN),
        ("0 6 * * 1-5", "0 6 * * 1-5", None),
        ("0 6 * * 1-5 Europe/Berlin", "0 6 * * 1-5", BERLIN),
        ("  0 6  * * mon\tUTC ", "0 6 * * mon", "UTC"),
        ("off", OFF, None),
        (" OFF ", OFF, None),
    ],
)
def test_a_schedule_is_a_cron_and_perhaps_a_zone(text: str, cron: str, zone: str | None) -> None:
    assert split_schedule(text) == (cron, zone)


SCHEDULE = re.escape(
    "five cron fields or an alias, and a time zone where it has its own, such as "
    "'0 6 * * 1-5 Europe/Berlin' or '@hourly', or 'off'"
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", SCHEDULE),
        ("0 6 * *", SCHEDULE),
        ("0 6 * * * Europe Berlin", SCHEDULE),
        ("@daily at noon", SCHEDULE),
        ("off Europe/Berlin", SCHEDULE),
        ("0 6 * * * Berlin", "the IANA name of a time zone, such as .*; 'Berlin' is none"),
        ("@daily Europe", "'Europe' is none"),
        ("@daily ../UTC", "'../UTC' is none"),
        ("* * * * * *", "the IANA name of a time zone"),
        ("@reboot", "five cron fields or an alias"),
        ("60 * * * *", "out of range"),
        ("0 0 * * 8", "out of range"),
        ("*/0 * * * *", "'[*]/0 [*] [*] [*] [*]' has a step of 0"),
        ("0 1-5/00 * * *", "has a step of 0"),
        ("H 6 * * *", "five cron fields or an alias"),
        ("R 6 * * *", "'R 6 [*] [*] [*]' is random"),
        ("1,r(0-5) 6 * * *", "is random"),
        ("0 0 30 2 *", "a day that exists; '0 0 30 2 [*]' has none"),
        ("0 0 31 4,6,9,11 *", "a day that exists"),
    ],
)
def test_what_is_no_schedule_is_told_what_is(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        split_schedule(text)


def test_a_cron_alone_has_no_zone_and_is_not_off() -> None:
    for text in ("@daily UTC", "0 6 * * * UTC", OFF, ""):
        with pytest.raises(ValueError, match="five cron fields or an alias, such as"):
            check_cron(text)


def test_a_zone_is_given_back() -> None:
    assert check_zone(LORD_HOWE) == LORD_HOWE


# The same by brute force: every minute around a change of the clock.

CHANGES = [
    (NEW_YORK, "2026-03-08 07:00"),
    (NEW_YORK, "2026-11-01 06:00"),
    (BERLIN, "2026-03-29 01:00"),
    (BERLIN, "2026-10-25 01:00"),
    (LORD_HOWE, "2026-04-04 15:00"),
    (LORD_HOWE, "2026-10-03 15:30"),
    ("America/Santiago", "2026-09-06 04:00"),
    ("Asia/Kathmandu", "2028-02-28 18:15"),
]


def fields(low: int, high: int) -> st.SearchStrategy[str]:
    """A cron field over a range of numbers."""
    number = st.integers(low, high)
    return st.one_of(
        st.just("*"),
        number.map(str),
        st.integers(2, max(2, (high - low) // 2)).map(lambda step: f"*/{step}"),
        # croniter takes 5-5 for all the way round.
        st.lists(number, min_size=2, max_size=2, unique=True).map(
            lambda two: f"{min(two)}-{max(two)}"
        ),
        st.lists(number, min_size=2, max_size=3).map(lambda few: ",".join(map(str, few))),
    )


crons = st.tuples(
    fields(0, 59),
    st.one_of(fields(0, 4), fields(0, 23)),
    st.one_of(st.just("*"), st.just("*"), fields(1, 31)),
    st.one_of(st.just("*"), st.just("*"), fields(1, 12)),
    st.one_of(st.just("*"), st.just("*"), fields(0, 6)),
).map(" ".join)


class Clock:
    """A cron expression read by itself, on the clock of a zone."""

    def __init__(self, cron: str, tz: str) -> None:
        bounds = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6))
        self.cron, self.zone = cron.split(), ZoneInfo(tz)
        self.fields = [
            _numbers(each, *bound) for each, bound in zip(self.cron, bounds, strict=True)
        ]
        # Where a day of the month and one of the week are given, either counts.
        self.either = "*" not in (self.cron[2], self.cron[4])

    def shows(self, local: datetime) -> bool:
        """Whether a time on the clock matches."""
        minute, hour, day, month, weekday = self.fields
        days = [local.day in day, (local.weekday() + 1) % 7 in weekday]
        return (
            local.minute in minute
            and local.hour in hour
            and local.month in month
            and (any(days) if self.either else all(days))
        )

    def fires(self, at: datetime) -> bool:
        """Whether it fires at a minute: a time that matches, or one that the clock jumps over."""
        local, before = at.astimezone(self.zone), (at - MINUTE).astimezone(self.zone)
        if self.shows(local) and (not local.fold or self.cron[1].startswith("*")):
            return True
        skipped = before.replace(tzinfo=None) + MINUTE
        while skipped < local.replace(tzinfo=None):
            if self.shows(skipped):
                return True
            skipped += MINUTE
        return False


def _numbers(field: str, low: int, high: int) -> set[int]:
    found: set[int] = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        first, _, last = span.partition("-")
        start, end = (low, high) if span == "*" else (int(first), int(last or first))
        found |= set(range(start, end + 1, int(step or 1)))
    return found


@settings(max_examples=150, deadline=None)
@given(
    cron=crons,
    change=st.sampled_from(CHANGES),
    minutes=st.integers(-36 * 60, 12 * 60),
    seconds=st.sampled_from([0, 0, 1, 59]),
)
@example(cron="30 2 * * *", change=CHANGES[0], minutes=-60, seconds=0)
@example(cron="*/7 * * * *", change=CHANGES[1], minutes=-20, seconds=1)
@example(cron="15,45 * * * *", change=CHANGES[4], minutes=-10, seconds=0)
def test_the_next_tick_is_the_first_minute_that_matches(
    cron: str, change: tuple[str, str], minutes: int, seconds: int
) -> None:
    try:
        check_cron(cron)
    except ValueError:
        return  # 31 April
    tz, at = change
    after = moment(at) + timedelta(minutes=minutes, seconds=seconds)
    tick, clock = next_tick(cron, after, tz), Clock(cron, tz)

    assert tick > after
    assert next_tick(cron, tick - timedelta(seconds=1), tz) == tick
    assert next_tick(cron, after - timedelta(hours=5), tz) <= tick
    searched = after.replace(second=0) + MINUTE
    end = min(tick, after + timedelta(days=3))
    while searched < end:
        assert not clock.fires(searched), searched
        searched += MINUTE
    assert clock.fires(tick)
