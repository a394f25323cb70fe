"""Words that fit into Dagster's tree of conditions.

Dagster cuts what it shows there at 300 pixels, which are 38 characters. Within :data:`PILL` a short
form answers why and until when, whatever the names; the id of a run follows where there is room.
Times are in UTC unless they name a place.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from ...assets.intervals import Interval, spoken_end, spoken_start

PILL = 36
"""No short form is longer; what would be is cut at its end."""

_LEAST_NAME = 12


def label_of(what: str, detail: str, zone: str | None = None) -> str:
    """Returns what names a part of the tree, such as ``due in SQLMesh (@daily New York)``.

    Args:
        what: What has to hold.
        detail: A cron expression, or words in its place.
        zone: The zone of the cron expression.
    """
    city = _city(ZoneInfo(zone)) if zone else ""
    candidates = [f"{what} ({' '.join(filter(None, (detail, city)))})", f"{what} ({detail})", what]
    return next(text for text in candidates if len(text) <= PILL)


def clock(moment: datetime, at: datetime) -> str:
    """Returns a moment to come, as short as it is clear to somebody who reads it at another."""
    moment = _whole_minute(moment)
    days = (moment.date() - at.astimezone(moment.tzinfo).date()).days
    day = (
        "" if days == 0
        else f"{moment:%a} " if 0 < days < 7
        else f"{moment.day} {moment:%b} " if 0 < days < 300
        else f"{moment:%Y-%m-%d} "
    )  # fmt: skip
    return f"{day}{moment:%H:%M}{_place(moment.tzinfo)}"


def dated(moment: datetime) -> str:
    """Returns a moment with its date."""
    moment = _whole_minute(moment)
    return f"{moment:%Y-%m-%d %H:%M}{_place(moment.tzinfo)}"


def _whole_minute(moment: datetime) -> datetime:
    """Returns the minute by which a moment has come."""
    if moment.second or moment.microsecond:
        whole = moment.astimezone(UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)
        return whole.astimezone(moment.tzinfo)
    return moment


def _place(zone: tzinfo | None) -> str:
    city = _city(zone)
    return f" {city}" if city else ""


def _city(zone: tzinfo | None) -> str:
    """Returns the place in the name of a zone; none of UTC, which is meant without."""
    city = str(zone).rpartition("/")[2].replace("_", " ")
    return "" if city == "UTC" else city


def span(intervals: Sequence[Interval]) -> str:
    """Returns intervals in a few words; whole days as SQLMesh spells them, with the last one."""
    if len(intervals) > 1:
        return f"{len(intervals)} ranges from {spoken_start(intervals[0][0]).removesuffix(' UTC')}"
    (start, end), *_ = intervals
    if all(f"{moment.astimezone(UTC):%H:%M}" == "00:00" for moment in (start, end)):
        first, last = spoken_start(start), spoken_end(end)
        return first if first == last else f"{first} to {last}"
    start, end = start.astimezone(UTC), end.astimezone(UTC)
    if start.date() == end.date():
        return f"{start:%Y-%m-%d %H:%M} to {end:%H:%M}"
    return f"{start:%Y-%m-%d %H:%M} to {end:%m-%d %H:%M}"


def short_id(identifier: str) -> str:
    """Returns the part of an id that Dagster's pages show."""
    return identifier[:8]


def about(before: str, name: str, after: str = "") -> str:
    """Returns words around a name within :data:`PILL`.

    A long name loses its schema, then its middle. What stands after it goes where too little of the
    name would be left.
    """
    room = PILL - len(before) - len(after)
    for text in (name, name.rpartition(".")[2]):
        if len(text) <= room:
            return f"{before}{text}{after}"
    if after and room < _LEAST_NAME:
        return about(before, name)
    return f"{before}{_cut_middle(name.rpartition('.')[2], room)}{after}"


def joined(text: str, *more: str) -> str:
    """Returns a text with each of some others behind it for which there is room."""
    for each in more:
        text += each if len(text) + len(each) <= PILL else ""
    return text


def cut(text: str, room: int) -> str:
    """Returns a text without the end for which there is no room."""
    return text if len(text) <= room else f"{text[: room - 1].rstrip()}…"


def _cut_middle(text: str, room: int) -> str:
    end = (room - 1) // 2
    return f"{text[: room - 1 - end]}…{text[-end:]}"
