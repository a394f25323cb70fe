"""Old records of evaluations are purged, once a day."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from support.projects import PLANNED_AT
from support.ticks import Automation

from dagster_sqlmesh_automation.automation.upkeep.housekeeping import Housekeeping

KEY = dg.AssetKey(["staging", "orders"])


@pytest.fixture
def recorded(automation: Automation, tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """An instance that has stored what one tick evaluated, now."""
    evaluations = automation.tick(PLANNED_AT).evaluations
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        storage = instance.schedule_storage
        assert storage is not None
        storage.add_auto_materialize_asset_evaluations(
            1, [each.with_run_ids(set()) for each in evaluations]
        )
        assert kept(instance) == 1
        yield instance


def kept(instance: dg.DagsterInstance) -> int:
    storage = instance.schedule_storage
    assert storage is not None
    return len(storage.get_auto_materialize_asset_evaluations(key=KEY, limit=10))


def test_records_older_than_the_setting_are_purged_and_newer_ones_are_not(
    recorded: dg.DagsterInstance,
) -> None:
    now = datetime.now(UTC)
    Housekeeping(timedelta(days=30)).tidy(recorded, now + timedelta(days=29))
    assert kept(recorded) == 1
    Housekeeping(timedelta(days=30)).tidy(recorded, now + timedelta(days=31))
    assert kept(recorded) == 0


def test_it_is_done_at_the_first_tick_and_then_once_a_day(recorded: dg.DagsterInstance) -> None:
    housekeeping, now = Housekeeping(timedelta(days=30)), datetime.now(UTC)
    hours = [0, 1, 23, 24, 25, 48]
    done = [housekeeping.tidy(recorded, now + timedelta(hours=hour)) for hour in hours]
    assert done == [True, False, False, True, False, True]


def test_a_tick_of_the_sensor_does_it(recorded: dg.DagsterInstance, automation: Automation) -> None:
    sensor = automation.location.sensor
    sensor._housekeeping = Housekeeping(timedelta(days=-1))  # so that what is new counts as old
    with dg.build_sensor_context(
        instance=recorded, repository_def=automation.repository
    ) as context:
        sensor.evaluate_tick(context)
    assert kept(recorded) == 0
