"""When Dagster shows a model as late.

Dagster's cron policy asks at a deadline whether there is a materialization in the window that ends
there, and takes windows up to the shortest time between two deadlines.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import pairwise

import dagster as dg

from ...config.cron import Schedule, canonical, next_tick, next_ticks
from ...config.settings import AutomationSettings
from ..intervals import spoken_end, spoken_start
from ..project.manifest import ManifestModel
from .policy import Policy

_FROM = datetime(2026, 1, 1, tzinfo=UTC)
_SAMPLES = 400
_HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Freshness:
    """A model's freshness policy.

    Attributes:
        policy: Dagster's; ``None`` where the model has none.
        reason: In words: when it is late, or why it has no policy.
    """

    policy: dg.FreshnessPolicy | None
    reason: str


def freshness_of(
    model: ManifestModel, policy: Policy, settings: AutomationSettings
) -> Freshness | None:
    """The freshness policy that follows from a model's schedule; ``None`` where it is switched off.

    Args:
        model: A model that SQLMesh evaluates.
        policy: How it is automated.
        settings: With the grace.
    """
    if not settings.freshness:
        return None
    if policy.paused:
        return Freshness(None, "none: it is paused")
    if model.kind == "SEED":
        return Freshness(None, "none: a seed is evaluated when its file changes")
    if model.end is not None:
        end = spoken_end(datetime.fromisoformat(model.end))
        return Freshness(None, f"none: SQLMesh evaluates nothing after {end}")
    if model.start is not None and (start := datetime.fromisoformat(model.start)) > datetime.now(
        UTC
    ):
        return Freshness(None, f"none: it starts on {spoken_start(start)}")
    cron = Schedule(model.cron, model.cron_tz or "UTC")
    grace = timedelta(seconds=settings.freshness_grace_seconds)
    return _freshness(cron, policy.schedule, grace, policy.min_gap)


@lru_cache(maxsize=1024)
def _freshness(
    cron: Schedule, schedule: Schedule | None, grace: timedelta, min_gap: timedelta
) -> Freshness:
    due = cron
    if schedule is not None:
        if _always_due(cron, schedule):
            due = schedule
        else:
            # Requested at the first moment of the schedule that follows the cron's.
            grace += _gaps(schedule)[1]
    shortest, _ = _gaps(due)
    if min_gap >= shortest:
        return Freshness(None, f"none: it may be requested every {_spoken(min_gap)} only")
    deadline = _shifted(due.cron, grace) if grace < shortest else None
    if deadline is not None:
        window, text = grace, f"{_spoken(grace)} after {due}"
    elif shortest < _HOUR and grace >= _HOUR and canonical(due.cron)[1] == ("*",):
        # Any materialization within the hour will do.
        deadline, window = "0 * * * *", _HOUR
        text = f"after an hour without a materialization, due at {due}"
    else:
        deadline, window = due.cron, shortest
        text = f"if it is not materialized before {due} fires again"
    try:
        policy = dg.FreshnessPolicy.cron(
            deadline_cron=deadline, lower_bound_delta=window, timezone=due.tz
        )
    except ValueError as error:  # as for the fifth Monday of a February, which is too rare for it
        return Freshness(None, f"none: Dagster takes no deadline like {due} ({error})")
    return Freshness(policy, f"late {text}")


def _always_due(cron: Schedule, schedule: Schedule) -> bool:
    """Whether there is a tick of the cron between any two moments of a schedule."""
    at = schedule.opens(_FROM)
    for following in next_ticks(schedule.cron, at, schedule.tz, _SAMPLES):
        if next_tick(cron.cron, at, cron.tz) > following:
            return False
        at = following
    return True


@lru_cache(maxsize=1024)
def _gaps(schedule: Schedule) -> tuple[timedelta, timedelta]:
    """The shortest and the longest time between two moments that follow each other."""
    first = schedule.opens(_FROM)
    ticks = [first, *next_ticks(schedule.cron, first, schedule.tz, _SAMPLES)]
    # One that comes once in two hundred years counts as if it came every two hundred.
    gaps = [later - earlier for earlier, later in pairwise(ticks)] or [timedelta(days=73_050)]
    # On the clock, by which Dagster measures: two days of the year are an hour longer or shorter.
    shortest = min(gaps)
    if shortest >= timedelta(hours=20):
        shortest = timedelta(days=round(shortest / timedelta(days=1)))
    return shortest, max(gaps)


def _shifted(cron: str, by: timedelta) -> str | None:
    """A cron expression that fires later than another one by some minutes; ``None`` where none can.

    Args:
        cron: Five fields or an alias.
        by: Whole minutes count.
    """
    minutes, hours, days, months, weekdays, nth = canonical(cron)
    shift = int(by / timedelta(minutes=1))
    if nth or "*" in minutes:
        return None
    numbers = [int(minute) for minute in minutes]
    every_day = days == months == weekdays == ("*",)
    if hours == ("*",):
        wraps = max(numbers) + shift >= 60
        if shift >= 60 or (wraps and not every_day):
            return None
        shown = (_list([(minute + shift) % 60 for minute in numbers]), "*")
    else:
        moments = {(int(hour) * 60 + minute + shift) for hour in hours for minute in numbers}
        if max(moments) >= 24 * 60 and not every_day:
            return None
        late = {divmod(moment % (24 * 60), 60) for moment in moments}
        new_hours, new_minutes = {hour for hour, _ in late}, {minute for _, minute in late}
        if len(late) != len(new_hours) * len(new_minutes):
            return None
        shown = (_list(list(new_minutes)), _list(list(new_hours)))
    return " ".join([*shown, *(_field(field) for field in (days, months, weekdays))])


def _list(numbers: list[int]) -> str:
    return ",".join(str(number) for number in sorted(numbers))


def _field(values: tuple[int | str, ...]) -> str:
    return ",".join(str(value) for value in values)


def _spoken(time: timedelta) -> str:
    minutes = round(time / timedelta(minutes=1))
    hours, rest = divmod(minutes, 60)
    return f"{hours} h" if not rest else f"{hours} h {rest} min" if hours else f"{rest} min"
