"""Cron expressions: what they mean, and their moments in a time zone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from croniter import CroniterError, croniter

OFF = "off"
"""Stands in place of a schedule if nothing is requested by itself."""

_CRON = "five cron fields or an alias, such as '0 6 * * 1-5' or '@hourly'"
_ACCEPTED = (
    "five cron fields or an alias, and a time zone where it has its own, such as "
    "'0 6 * * 1-5 Europe/Berlin' or '@hourly', or 'off'"
)
_WIDEST_CHANGE = timedelta(hours=3)
_HORIZON = timedelta(days=73_050)


@dataclass(frozen=True, slots=True)
class Schedule:
    """When models may be requested.

    Attributes:
        cron: A cron expression with five fields, or an alias such as ``@daily``.
        tz: IANA name of the zone in which it is read.
    """

    cron: str
    tz: str

    def __str__(self) -> str:
        return f"{self.cron} {self.tz}"

    def opens(self, since: datetime) -> datetime:
        """Returns the first moment at or after ``since``, in UTC."""
        # In UTC, as arithmetic in a zone forgets which of two equal times on the clock is meant.
        return next_tick(self.cron, since.astimezone(UTC) - timedelta(microseconds=1), self.tz)


def split_schedule(text: str) -> tuple[str, str | None]:
    """Splits a schedule, as people write it, into its cron expression and its time zone.

    Args:
        text: A schedule such as ``0 6 * * 1-5 Europe/Berlin``, ``@daily`` or ``off``.

    Returns:
        The cron expression, and the IANA name of its zone or ``None`` if it names none.

    Raises:
        ValueError: The text is not a schedule; the message says what is accepted.
    """
    words = text.split()
    if [word.lower() for word in words] == [OFF]:
        return OFF, None
    fields = 1 if words and words[0].startswith("@") else 5
    cron, zone = " ".join(words[:fields]), words[fields:]
    if len(words) < fields or len(zone) > 1:
        raise ValueError(_ACCEPTED)
    check_cron(cron)
    if zone:
        check_zone(zone[0])
    return cron, zone[0] if zone else None


def check_cron(cron: str) -> None:
    """Checks that a cron expression is valid and has a moment.

    Raises:
        ValueError: The expression is not valid, or no year has such a day.
    """
    try:
        if not cron.startswith("@") and len(cron.split()) != 5:
            raise ValueError(_CRON)
        # croniter reads an "r" as a random moment, which differs from process to process.
        if re.search(r"\br\b", cron, re.IGNORECASE):
            raise ValueError(f"{_CRON}; {cron!r} is random")
        # Not every version of croniter says that.
        if re.search(r"/0+\b", cron):
            raise ValueError(f"{_CRON}; {cron!r} has a step of 0")
        canonical(cron)
    except (CroniterError, KeyError) as error:
        raise ValueError(_CRON if cron.startswith("@") else f"{_CRON} ({error})") from None
    try:
        next_tick(cron, datetime(2026, 1, 1, tzinfo=UTC))
    except (CroniterError, KeyError, ValueError, OverflowError):  # the latter after year 9999
        raise ValueError(f"a cron expression with a day that exists; {cron!r} has none") from None


def check_zone(name: str) -> str:
    """Checks that a time zone exists and returns its name.

    Raises:
        ValueError: The zone does not exist.
    """
    try:
        ZoneInfo(name)
    # A folder of the time zone database, such as "Europe", is no file.
    except (KeyError, ValueError, OSError):
        raise ValueError(
            f"the IANA name of a time zone, such as Europe/Berlin or UTC; {name!r} is none"
        ) from None
    return name


@lru_cache(maxsize=1024)
def canonical(cron: str) -> tuple[tuple[int | str, ...], ...]:
    """Returns one value for all spellings of a cron, such as ``@daily`` and ``0 0 * * *``."""
    fields, nth_weekdays = croniter.expand(cron)
    nth = [f"{day}#{sorted(nths, key=str)}" for day, nths in sorted(nth_weekdays.items())]
    return (*(tuple(sorted(field, key=str)) for field in fields), tuple(nth))


def next_tick(cron: str, after: datetime, tz: str | None = None) -> datetime:
    """Returns the first moment of a cron expression after another moment.

    If the clock jumps over a time, the moment is the jump. If the clock shows a time twice, an
    expression with fixed hours fires the first time only, and one with ``*`` in the hours fires
    both times.

    Args:
        cron: A cron expression with five fields, or an alias such as ``@daily``.
        after: An aware datetime; the result is later than this.
        tz: IANA name of the zone in which the expression is read; UTC if it is ``None``.

    Returns:
        The moment in UTC.
    """
    # Two equal times on the clock are one key of a cache; their moments in UTC are two.
    return _next_tick(cron, after.astimezone(UTC), ZoneInfo(tz or "UTC"))


def next_ticks(cron: str, after: datetime, tz: str | None, most: int) -> Iterator[datetime]:
    """Yields the moments of a cron expression after a given one, as :func:`next_tick`.

    It ends by itself: after so many, after two hundred years, and where croniter looks no further.
    A day such as the fifth Monday of a February comes every 28 years, and there is no year 10000.

    Args:
        cron: As for :func:`next_tick`.
        after: As for :func:`next_tick`.
        tz: As for :func:`next_tick`.
        most: How many moments at most.
    """
    tick, last = after, after + _HORIZON
    for _ in range(most):
        try:
            tick = next_tick(cron, tick, tz)
        except (CroniterError, ValueError, OverflowError):
            return
        if tick > last:
            return
        yield tick


@lru_cache(maxsize=65_536)
def _next_tick(cron: str, after: datetime, zone: ZoneInfo) -> datetime:
    earliest: datetime | None = None
    repeats = canonical(cron)[1] == ("*",) or any(
        field.startswith("*") for field in cron.split()[1:2]
    )
    for wall in _walls(cron, _first_wall(after, zone)):
        moments = _moments(wall, zone, twice=repeats)
        later = [moment for moment in moments if moment > after]
        earliest = min([*later, *([earliest] if earliest else [])], default=None)
        # Later times on the clock may be earlier moments where it is set back, but not by more.
        if earliest is not None and earliest <= moments[0]:
            return earliest
    raise AssertionError("croniter ends with an error, not with the last tick")


def _first_wall(after: datetime, zone: ZoneInfo) -> datetime:
    """Returns the time on the clock from which to look, before any that it may show again."""
    local = after.astimezone(zone)
    earlier, later = (after + sign * _WIDEST_CHANGE for sign in (-1, 1))
    if earlier.astimezone(zone).utcoffset() == later.astimezone(zone).utcoffset():
        return local.replace(tzinfo=None)
    return local.replace(tzinfo=None) - _WIDEST_CHANGE


def _walls(cron: str, start: datetime) -> Iterator[datetime]:
    ticks = croniter(cron, start)
    while True:
        yield ticks.get_next(datetime)


def _moments(wall: datetime, zone: ZoneInfo, *, twice: bool) -> list[datetime]:
    """Returns the moments at which a clock shows a time, or that at which it jumps over it."""
    first, second = (wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    if second < first:  # PEP 495: the offsets before and after a gap, in this order
        return [_jump(second, first, zone)]
    return [first, second] if twice and second > first else [first]


def _jump(before: datetime, after: datetime, zone: ZoneInfo) -> datetime:
    """Returns the moment between two at which the clock is put forward, to the minute."""
    offset = before.astimezone(zone).utcoffset()
    while after - before > timedelta(minutes=1):
        middle = before + (after - before) / 2
        if middle.astimezone(zone).utcoffset() == offset:
            before = middle
        else:
            after = middle
    return after.replace(second=0, microsecond=0)
