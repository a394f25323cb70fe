"""What may be evaluated: moments that the clock has reached."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from dagster_sqlmesh_automation.config.clock import TOLERANCE, check_reached
from dagster_sqlmesh_automation.config.errors import AheadOfClock, ConfigurationError


@pytest.mark.parametrize(
    "ahead",
    [
        pytest.param(-timedelta(days=400), id="last year"),
        pytest.param(timedelta(), id="now"),
        pytest.param(TOLERANCE / 2, id="a clock that is some seconds ahead"),
    ],
)
def test_a_moment_that_has_come_is_returned(ahead: timedelta) -> None:
    at = datetime.now(UTC) + ahead
    assert check_reached(at, "--at") == at


def test_a_moment_ahead_of_the_clock_is_refused_with_its_source_and_the_clock() -> None:
    at = datetime.now(UTC) + TOLERANCE + timedelta(seconds=5)
    with pytest.raises(AheadOfClock) as caught:
        check_reached(at, "The run tag sqlmesh/execution_time")
    assert isinstance(caught.value, ConfigurationError)
    assert f"The run tag sqlmesh/execution_time {at.isoformat()}" in str(caught.value)
    assert f"the clock, which shows {datetime.now(UTC):%Y-%m-%d %H:}" in str(caught.value)
    assert "--dry-run" in str(caught.value)
