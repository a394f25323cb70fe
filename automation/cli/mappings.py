"""Finds schedules that are not likely to do what their author means.

A schedule cannot make SQLMesh evaluate anything earlier or more often than a model's cron does, so
none of these does harm; but people are surprised by them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from ...assets.definitions.policy import Policy
from ...assets.project.manifest import Manifest
from ...config.cron import Schedule, canonical, next_tick, next_ticks
from ...config.settings import AutomationSettings

_FROM = datetime(2026, 1, 1, tzinfo=UTC)
"""The looked-at year begins here; there is nothing special about it."""

_SAMPLES = 60
_STEP = timedelta(days=6, hours=1, minutes=7)
"""Sixty of these steps are a year and reach all hours and all days of the week."""

_TICKS = 500
_LATE = 0.75


@dataclass(frozen=True)
class _Pair:
    """Pairs a model's cron with the schedule at which its intervals are requested."""

    cron: str
    tz: str
    schedule: Schedule


def misleading(
    settings: AutomationSettings, manifest: Manifest, policies: Mapping[str, Policy]
) -> list[str]:
    """Returns a sentence for each schedule of ``CRON_MAP`` and ``MODELS`` that misleads.

    Args:
        settings: The settings with the schedules.
        manifest: The models and their crons.
        policies: How each model is automated, by ``fqn``.
    """
    return [*_unused(settings, manifest, policies), *_surprising(manifest, policies)]


def _unused(
    settings: AutomationSettings, manifest: Manifest, policies: Mapping[str, Policy]
) -> Iterator[str]:
    """Yields a sentence for each schedule that no model follows."""
    used = {policy.origins.get("schedule") for policy in policies.values()}
    crons = {canonical(node.cron): node.cron for node in manifest.decided}
    same = {canonical(cron): cron for cron in settings.cron_map}
    for cron, schedule in settings.cron_map.items():
        if f"CRON_MAP {cron}" in used:
            continue
        if (other := same[canonical(cron)]) != cron:
            why = f"{other!r} is the same cron and counts in its place"
        elif canonical(cron) in crons:
            why = "rules of MODELS set the schedule of every model with this cron"
        else:
            why = f"no model has this cron; the models' crons: {', '.join(sorted(crons.values()))}"
        yield f"CRON_MAP {cron} -> {schedule} is not used: {why}"
    for pattern, rule in settings.models.items():
        if rule.schedule and f"MODELS {pattern}" not in used:
            yield (
                f"MODELS {pattern}: schedule {rule.schedule} is not used: later rules set the "
                "schedule of every model that it matches"
            )


def _surprising(manifest: Manifest, policies: Mapping[str, Policy]) -> Iterator[str]:
    """Yields a sentence for each schedule that fires in vain or late, with its models."""
    models: dict[_Pair, list[str]] = {}
    for node in manifest.decided:
        if (schedule := policies[node.fqn].schedule) is not None:
            pair = _Pair(node.cron, node.cron_tz or "UTC", schedule)
            models.setdefault(pair, []).append(node.fqn)
    for pair, fqns in models.items():
        if why := _often(pair) or _late(pair):
            origin = policies[fqns[0]].origins["schedule"]
            count = f"{len(fqns)} model{'s' * (len(fqns) != 1)}"
            yield f"{origin} -> {pair.schedule} ({count}): {why}"


def _often(pair: _Pair) -> str:
    """Returns that most of a schedule's ticks find nothing due; empty if they do not."""
    first = pair.schedule.opens(_FROM)
    ticks = [first, *next_ticks(pair.schedule.cron, first, pair.schedule.tz, _TICKS)]
    used = sum(
        next_tick(pair.cron, tick, pair.tz) <= following for tick, following in pairwise(ticks)
    )
    if used >= (len(ticks) - 1) / 2:
        return ""
    return (
        f"it fires more often than the models' cron {pair.cron} {pair.tz}, so most of its ticks "
        "find nothing due: it says when to request what SQLMesh holds due, and makes nothing due. "
        "For fresher data change the models' cron"
    )


def _late(pair: _Pair) -> str:
    """Returns that every interval waits for most of the cron's period; empty if some do not."""
    waits = _waits(pair)
    if _share(waits) <= _LATE:
        return ""
    least = min(wait for wait, _ in waits)
    waited = (
        f"every interval is requested at least {_spoken(least)} after SQLMesh holds it due, and "
        "what reads these models waits as long"
    )
    tick = f"SQLMesh's tick ({pair.cron} {pair.tz})"
    there = _Pair(pair.cron, pair.tz, Schedule(pair.schedule.cron, pair.tz))
    if pair.schedule.tz != pair.tz and _share(_waits(there)) <= _LATE:
        return (
            f"in {pair.schedule.tz} it fires shortly before {tick}, so {waited}. Set the models' "
            f"cron_tz to {pair.schedule.tz}, or let the schedule fire after that tick"
        )
    return (
        f"it fires late after {tick}, so {waited}. It requests the interval that ended at that "
        "tick, and not the one in progress. Let it fire soon after that tick, or change "
        "the models' cron"
    )


def _waits(pair: _Pair) -> list[tuple[timedelta, timedelta]]:
    """Returns how long intervals wait from cron tick to schedule, with the cron's period there."""
    ticks = {
        _last_tick(pair, pair.schedule.opens(_FROM + number * _STEP)) for number in range(_SAMPLES)
    }
    return [
        (pair.schedule.opens(tick) - tick, next_tick(pair.cron, tick, pair.tz) - tick)
        for tick in ticks
    ]


def _share(waits: list[tuple[timedelta, timedelta]]) -> float:
    """Returns the least part of a period that an interval waits."""
    return min(wait / period for wait, period in waits)


def _last_tick(pair: _Pair, at: datetime) -> datetime:
    """Returns the last tick of the cron at or before a moment."""
    back = timedelta(minutes=1)
    while (tick := next_tick(pair.cron, at - back, pair.tz)) > at:
        back *= 2
    while (following := next_tick(pair.cron, tick, pair.tz)) <= at:
        tick = following
    return tick


def _spoken(wait: timedelta) -> str:
    """Returns a wait in days, hours or minutes, whichever is precise enough."""
    hours = wait / timedelta(hours=1)
    if hours >= 72:
        return f"{hours / 24:.0f} days"
    return f"{hours:.0f} hours" if hours >= 3 else f"{hours * 60:.0f} minutes"
