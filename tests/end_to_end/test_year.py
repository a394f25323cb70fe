"""Simulated years: random projects, outages and failures against plain ``sqlmesh run``."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings, strategies as st
from support.simulation import Simulation
from support.twin import Design, plain_runs

from dagster_sqlmesh_automation.assets.definitions.policy import Policy
from dagster_sqlmesh_automation.automation.facts.facts import Limits
from dagster_sqlmesh_automation.config.cron import Schedule
from dagster_sqlmesh_automation.config.rules import RetrySettings

ZONES = ["UTC", "America/New_York", "Europe/Berlin", "Australia/Lord_Howe"]
QUICK = ["*/5 * * * *", "*/15 * * * *", "@hourly"]
SLOW = ["@daily", "@weekly", "0 6 * * *", "@monthly"]
QUICK_SCHEDULES = ["*/10 * * * *", "5 * * * *", "0 8-20 * * *"]
SLOW_SCHEDULES = ["0 6 * * 1-5", "30 2 * * *", "0 */6 * * *", "0 12 * * 1"]
WIDEST_WINDOW = timedelta(days=8)
"""The longest time between two moments of a schedule above, and for what waits on another one."""


@st.composite
def policies(draw: st.DrawFn, schedules: list[str]) -> Policy:
    schedule = None
    if draw(st.integers(0, 2)) == 0:
        schedule = Schedule(draw(st.sampled_from(schedules)), draw(st.sampled_from(ZONES)))
    return Policy(
        schedule=schedule,
        retry=RetrySettings(
            max_attempts=draw(st.integers(1, 4)), delay_seconds=draw(st.sampled_from([0, 60, 600]))
        ),
        min_gap=timedelta(seconds=draw(st.sampled_from([0, 0, 0, 1800]))),
    )


@st.composite
def projects(draw: st.DrawFn, crons: list[str], schedules: list[str]) -> list[Design]:
    designs: list[Design] = []
    for number in range(draw(st.integers(2, 6))):
        names = [design.name for design in designs]
        parents = draw(st.lists(st.sampled_from(names), max_size=2, unique=True)) if names else []
        designs.append(
            Design(
                name=f"m{number}",
                parents=tuple(parents),
                cron=draw(st.sampled_from(crons)),
                cron_tz=draw(st.sampled_from([None, None, *ZONES[1:]])),
                kind=draw(st.sampled_from(["incremental", "incremental", "full", "view"])),
                policy=draw(policies(schedules)),
            )
        )
    return designs


LIMITS = st.builds(Limits, executions=st.integers(1, 3), models=st.sampled_from([0, 0, 1, 2]))


def agree(
    designs: list[Design], limits: Limits, seed: int, start: datetime, span: timedelta
) -> Simulation:
    """Simulates, and compares with plain runs of SQLMesh."""
    end, calm = start + span, start + span * 0.7
    simulation = Simulation(designs, start, calm, Random(seed), limits).until(end)
    assert simulation.wrong == []

    settled = end - min(WIDEST_WINDOW, span * 0.25)
    plain = plain_runs(designs, start, settled, lambda name: False)
    for name, snapshot in plain.snapshots.items():
        ours = simulation.twin.snapshots[name].intervals
        for first, last in snapshot.intervals:
            assert any(start <= first and last <= end for start, end in ours), name
        # SQLMesh itself holds nothing more due than what both have.
        assert simulation.twin.missing(name, settled) == [], name
    return simulation


PROFILE: dict[str, Any] = {
    "deadline": None,
    "derandomize": True,
    "suppress_health_check": list(HealthCheck),
    # A smaller example of a failure takes minutes to find.
    "phases": [Phase.generate],
}


@settings(max_examples=5, **PROFILE)
@given(projects(QUICK, QUICK_SCHEDULES), LIMITS, st.integers(0, 10**6))
def test_days_of_quick_crons(designs: list[Design], limits: Limits, seed: int) -> None:
    # Over the change to winter time in Berlin, with its outages.
    agree(designs, limits, seed, datetime(2026, 10, 23, tzinfo=UTC), timedelta(days=4))


@settings(max_examples=3, **PROFILE)
@given(projects(SLOW, SLOW_SCHEDULES), LIMITS, st.integers(0, 10**6))
def test_a_year_of_slow_crons(designs: list[Design], limits: Limits, seed: int) -> None:
    agree(designs, limits, seed, datetime(2027, 6, 1, tzinfo=UTC), timedelta(days=366))


@pytest.mark.campaign
@pytest.mark.timeout(3600)
@settings(max_examples=40, **PROFILE)
@given(projects(QUICK, QUICK_SCHEDULES), LIMITS, st.integers(0, 10**6))
def test_many_days_of_quick_crons(designs: list[Design], limits: Limits, seed: int) -> None:
    agree(designs, limits, seed, datetime(2027, 3, 26, tzinfo=UTC), timedelta(days=6))


@pytest.mark.campaign
@pytest.mark.timeout(3600)
@settings(max_examples=20, **PROFILE)
@given(projects(SLOW, SLOW_SCHEDULES), LIMITS, st.integers(0, 10**6))
def test_many_years_of_slow_crons(designs: list[Design], limits: Limits, seed: int) -> None:
    agree(designs, limits, seed, datetime(2027, 6, 1, tzinfo=UTC), timedelta(days=366))
