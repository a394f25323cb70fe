"""What the doctor finds in the records of evaluations, SQLMesh's and those of runs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from ..facts.ends import HOW_ON, last_failed_end
from ..facts.facts import spoken_intervals
from .findings import MOST_NAMES, Examined, Finding


def ahead(examined: Examined) -> Iterator[Finding]:
    """Names the models that SQLMesh has recorded as evaluated for times that had not ended."""
    location = examined.location
    early = location.planner.recorded_ahead()
    if not early:
        return
    names = sorted(location.index.names.get(fqn, fqn) for fqn in early)
    audits = {audit.name for audit in location.manifest.standalone_audits}
    ranges = [interval for intervals in early.values() for interval in intervals]
    start, end = min(begin for begin, _ in ranges), max(end for _, end in ranges)
    config = {
        "models": [name for name in names if name not in audits] or names,
        "start": f"{start:%Y-%m-%d}",
        "dry_run": False,
    }
    yield Finding(
        f"{len(names)} model{'s' * (len(names) != 1)} recorded as evaluated before intervals had "
        f"ended, {spoken_intervals([(start, end)])}, so that data that arrive for them are never "
        f"evaluated: {_some(names)}",
        f"Launch the job {location.settings.id}_restate with {json.dumps(config)}. A plan, run or "
        "tick for a moment ahead of the clock has done it, or a clock that was wrong.",
        exit_code=2,
    )


def unrecorded(examined: Examined) -> Iterator[Finding]:
    """Names the models that are due for what a run has evaluated and SQLMesh has not recorded."""
    names = sorted(
        decision.name for decision in examined.plan.decisions.values() if decision.unrecorded
    )
    if names:
        yield Finding(
            f"{len(names)} model{'s' * (len(names) != 1)} evaluated without SQLMesh recording it: "
            f"{_some(names)}",
            "Each is evaluated once for each of its cron ticks and not at every tick. SQLMesh does "
            "not record models with indirect non-breaking changes outside prod (its issue #5793); "
            "that ends once the change is planned in prod.",
        )


def _some(names: Sequence[str]) -> str:
    """Returns the first names, and how many more there are."""
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return f"{', '.join(names[:MOST_NAMES])}{more}"


def ends(examined: Examined) -> Iterator[Finding]:
    """Names the last run that failed after its last model, if no later one has made it good."""
    end = last_failed_end(examined.location.index, examined.instance)
    if end is not None:
        yield Finding(str(end), f"Mend what failed. {HOW_ON}", exit_code=2 if end.is_known else 0)
