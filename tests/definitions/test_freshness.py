"""Freshness policies: when Dagster shows a model as late."""

from __future__ import annotations

import asyncio
import zoneinfo
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.freshness import CronFreshnessPolicy, FreshnessState
from dagster._core.definitions.freshness_evaluator import CronFreshnessPolicyEvaluator
from dagster._core.loader import LoadingContextForTest
from dagster._core.test_utils import freeze_time
from hypothesis import given, strategies as st
from support.warehouse import MODELS, warehouse

from dagster_sqlmesh_automation import AutomationSettings, build_definitions
from dagster_sqlmesh_automation.assets.definitions.freshness import _freshness, _shifted
from dagster_sqlmesh_automation.config.cron import Schedule, next_tick

HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("cron", "schedule", "grace", "deadline", "window", "said"),
    [
        ("@daily UTC", None, HOUR, "0 1 * * * UTC", HOUR, "late 1 h after @daily UTC"),
        ("30 23 * * * UTC", None, HOUR, "30 0 * * * UTC", HOUR, "late 1 h after"),
        ("0 6 * * 1-5 Europe/Berlin", None, 2 * HOUR, "0 8 * * 1,2,3,4,5 Europe/Berlin",
         2 * HOUR, "late 2 h after"),
        # The next day of these is not one of theirs: late when they fire again.
        ("30 23 * * 1-5 UTC", None, HOUR, "30 23 * * 1-5 UTC", 24 * HOUR, "fires again"),
        ("@weekly UTC", None, HOUR, "0 1 * * 0 UTC", HOUR, "late 1 h after"),
        ("@monthly UTC", None, HOUR, "0 1 1 * * UTC", HOUR, "late 1 h after"),
        ("0 6,18 * * * UTC", None, HOUR, "0 7,19 * * * UTC", HOUR, "late 1 h after"),
        ("@hourly UTC", None, HOUR / 4, "15 * * * * UTC", HOUR / 4, "late 15 min after"),
        ("@hourly UTC", None, HOUR, "@hourly UTC", HOUR,
         "late if it is not materialized before @hourly UTC fires again"),
        ("@hourly UTC", None, 5 * HOUR, "@hourly UTC", HOUR, "fires again"),
        ("*/5 * * * * UTC", None, HOUR, "0 * * * * UTC", HOUR,
         "late after an hour without a materialization, due at */5 * * * * UTC"),
        ("*/5 * * * * UTC", None, HOUR / 60, "1,6,11,16,21,26,31,36,41,46,51,56 * * * * UTC",
         HOUR / 60, "late 1 min after"),
        # Mapped: the schedule counts where each of its moments finds something due.
        ("@daily UTC", "0 6 * * * Europe/Berlin", HOUR, "0 7 * * * Europe/Berlin", HOUR,
         "after 0 6 * * * Europe/Berlin"),
        ("@hourly UTC", "0 6 * * * UTC", HOUR, "0 7 * * * UTC", HOUR, "after 0 6 * * * UTC"),
        # Else the cron, and the time to the schedule on top.
        ("@daily UTC", "*/15 * * * * UTC", HOUR, "15 1 * * * UTC", HOUR * 1.25,
         "late 1 h 15 min after @daily UTC"),
    ],
)  # fmt: skip
def test_deadlines(
    cron: str, schedule: str | None, grace: timedelta, deadline: str, window: timedelta, said: str
) -> None:
    def parsed(text: str) -> Schedule:
        fields, _, zone = text.rpartition(" ")
        return Schedule(fields, zone)

    found = _freshness(parsed(cron), parsed(schedule) if schedule else None, grace, timedelta())
    policy = found.policy
    assert isinstance(policy, CronFreshnessPolicy)
    assert f"{policy.deadline_cron} {policy.timezone}" == deadline
    assert policy.lower_bound_delta == window
    assert said in found.reason


@given(
    minutes=st.lists(st.integers(0, 59), min_size=1, max_size=3, unique=True),
    hours=st.lists(st.integers(0, 23), min_size=0, max_size=3, unique=True),
    days=st.sampled_from(["* * *", "* * 1-5", "1 * *", "* 2 *"]),
    shift=st.integers(1, 1500),
)
def test_a_shifted_expression_fires_that_much_later(
    minutes: list[int], hours: list[int], days: str, shift: int
) -> None:
    cron = f"{','.join(map(str, minutes))} {','.join(map(str, hours)) or '*'} {days}"
    shifted = _shifted(cron, timedelta(minutes=shift))
    if shifted is None:
        return
    at = datetime(2026, 2, 26, tzinfo=UTC)
    for _ in range(20):
        at = next_tick(cron, at)
        later = at + timedelta(minutes=shift)
        assert next_tick(shifted, later - timedelta(minutes=1)) == later


def specs(tmp_path: Path, **settings: Any) -> dict[str, dg.AssetSpec]:
    models = {
        **MODELS,
        "seeds/s.csv": "id\n1\n",
        "models/seed.sql": "MODEL (name shop.seed, kind SEED (path '../seeds/s.csv'));\n",
        "models/old.sql": (
            "MODEL (name shop.old, kind FULL, start '2026-10-01', end '2026-10-03');\n"
            "SELECT 1 AS x\n"
        ),
    }
    shop = warehouse(tmp_path / "shop", models=models)
    definitions = build_definitions(AutomationSettings(project=shop.project, **settings))
    return {s.key.to_user_string(): s for s in definitions.resolve_all_asset_specs()}


def test_who_has_none_is_told_why(tmp_path: Path) -> None:
    rules = {"shop.totals": {"paused": True}, "shop.best": {"min_gap_seconds": 90_000}}
    found = specs(tmp_path, models=rules)
    said = {key: str(spec.metadata.get("sqlmesh/freshness")) for key, spec in found.items()}
    without = {key for key, spec in found.items() if spec.freshness_policy is None}
    assert without == {
        "raw/control", "raw/events", "shop/totals", "shop/best", "shop/seed", "shop/old",
    }  # fmt: skip
    assert "paused" in said["shop/totals"]
    assert "every 25 h only" in said["shop/best"]
    assert "seed" in said["shop/seed"]
    assert said["shop/old"] == "none: SQLMesh evaluates nothing after 2026-10-03"
    assert said["shop/events"] == "late 1 h after @daily UTC"


def test_it_can_be_switched_off(tmp_path: Path) -> None:
    for spec in specs(tmp_path, freshness=False).values():
        assert spec.freshness_policy is None
        assert "sqlmesh/freshness" not in spec.metadata


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/New_York"])
def test_dagster_finds_a_model_fresh_until_its_deadline_and_late_after_it(
    instance: dg.DagsterInstance, zone: str
) -> None:
    found = _freshness(Schedule("@daily", zone), None, HOUR, timedelta())
    spec = dg.AssetSpec("orders", freshness_policy=found.policy)
    node = dg.Definitions(assets=[spec]).resolve_asset_graph().get(spec.key)

    def state(at: datetime) -> FreshnessState:
        with freeze_time(at):
            return asyncio.run(
                CronFreshnessPolicyEvaluator().evaluate_freshness(
                    LoadingContextForTest(instance), node
                )
            )

    now = datetime.now(UTC)
    assert state(now) is FreshnessState.UNKNOWN
    instance.report_runless_asset_event(dg.AssetMaterialization("orders"))
    assert state(now + timedelta(seconds=5)) is FreshnessState.PASS
    due = next_tick("@daily", datetime.now(UTC), zone)
    assert state(due + timedelta(minutes=59)) is FreshnessState.PASS
    assert state(due + timedelta(minutes=61)) is FreshnessState.FAIL
    assert zoneinfo.ZoneInfo(zone)
