"""Checks with automation conditions that users put on models run as on any other asset."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from support.ticks import Automation
from support.warehouse import MODELS, NEXT_DAY, Warehouse, warehouse

MINUTE = timedelta(minutes=1)
AUDITED = {
    **{
        path: text
        for path, text in MODELS.items()
        if path in {"models/events.sql", "models/totals.sql"} or path.startswith("audits/")
    },
    "audits/paid.sql": """
AUDIT (name paid, standalone true, cron '@daily');
SELECT * FROM shop.totals WHERE amount < 0
""",
}
TOTALS, OTHER = dg.AssetKey(["shop", "totals"]), dg.AssetKey("other")
CONDITIONS = {
    "hourly": dg.AutomationCondition.cron_tick_passed("0 * * * *"),
    "eager": dg.AutomationCondition.eager(),
    "never": None,
}
OURS = dg.AssetCheckKey(TOTALS, "paid")


@dg.asset(key=OTHER)
def other() -> None:
    """An asset that is no model."""


def check_on(asset: dg.AssetKey, name: str) -> dg.AssetChecksDefinition:
    @dg.asset_check(asset=asset, name=name, automation_condition=CONDITIONS[name])
    def check() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=True)

    return check


@pytest.fixture
def shop(tmp_path: Path) -> Warehouse:
    return warehouse(tmp_path / "shop", models=AUDITED)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    with dg.DagsterInstance.from_config(str(tmp_path / "home")) as instance:
        yield instance


@pytest.fixture
def automation(shop: Warehouse, home: dg.DagsterInstance) -> Automation:
    automation = Automation.of(shop.project, home)
    users = dg.Definitions(
        assets=[other],
        asset_checks=[check_on(asset, name) for asset in (TOTALS, OTHER) for name in CONDITIONS],
    )
    automation.location.definitions = dg.Definitions.merge(automation.location.definitions, users)
    return automation


class DefaultSensor:
    """Dagster's default automation sensor, evaluated moment after moment."""

    def __init__(self, automation: Automation) -> None:
        self.automation = automation
        repository = automation.repository
        sensor = repository.get_sensor_def("default_automation_condition_sensor")
        assert sensor.asset_selection is not None
        self.selection = sensor.asset_selection
        self.cursor: dg.AssetDaemonCursor | None = None

    def tick(self, at: datetime) -> set[tuple[str, str]]:
        """Evaluates the sensor's selection, runs the checks that it asks for, and names them."""
        result = dg.evaluate_automation_conditions(
            defs=self.automation.location.definitions,
            instance=self.automation.instance,
            asset_selection=self.selection,
            evaluation_time=at,
            cursor=self.cursor,
        )
        self.cursor = result.cursor
        checks = {each.key for each in result.results if not each.true_subset.is_empty}
        assert all(isinstance(key, dg.AssetCheckKey) for key in checks)
        if checks:
            run = self.automation.execute(set(), {}, sorted(checks))
            assert run.success
            assert not run.outcomes, "no model is evaluated for a check"
        return {(key.asset_key.to_user_string(), key.name) for key in checks}


def test_the_sensor_evaluates_models_and_standalone_audits_and_leaves_other_checks(
    automation: Automation,
) -> None:
    graph = automation.repository.asset_graph
    ours = automation.location.sensor.asset_selection
    assert ours is not None
    assert ours.resolve_checks(graph) == {OURS}
    assert {TOTALS} < ours.resolve(graph)
    left = DefaultSensor(automation).selection
    conditioned = {
        key for key in left.resolve_checks(graph) if graph.get(key).automation_condition is not None
    }
    assert conditioned == {
        dg.AssetCheckKey(asset, name) for asset in (TOTALS, OTHER) for name in ("hourly", "eager")
    }


def test_they_run_as_on_any_other_asset_also_while_nothing_is_due(automation: Automation) -> None:
    default = DefaultSensor(automation)
    both = {TOTALS.to_user_string(), OTHER.to_user_string()}
    assert not default.tick(NEXT_DAY - 10 * MINUTE)

    def ticked(at: datetime) -> set[tuple[str, str]]:
        """A tick of ours, its run, one of the default sensor, and idle ones of both after them."""
        tick, _ = automation.tick_and_run(at)
        asked = {key for request in tick.run_requests for key in request.asset_check_keys or ()}
        assert not {key.name for key in asked} & {"hourly", "eager"}
        requested = default.tick(at)
        assert not automation.tick(at + MINUTE).run_requests
        assert not default.tick(at + MINUTE)
        return requested

    # The model's run updates it; somebody materializes the other asset.
    automation.execute({OTHER}, {}, [])
    first = ticked(NEXT_DAY + MINUTE)
    assert first == {(asset, name) for asset in both for name in ("hourly", "eager")}
    # Nothing is due for the rest of the day.
    for hour in range(1, 6):
        at = NEXT_DAY + timedelta(hours=hour, seconds=10)
        assert not ticked(at - 2 * MINUTE)
        assert ticked(at) == {(asset, "hourly") for asset in both}


def test_a_standalone_audit_of_a_users_own_asset_is_requested(
    tmp_path: Path, home: dg.DagsterInstance
) -> None:
    audit = """
AUDIT (name loaded, standalone true, cron '@daily');
SELECT * FROM raw.events WHERE id < 0
"""
    shop = warehouse(tmp_path / "shop", models={**AUDITED, "audits/loaded.sql": audit})
    automation = Automation.of(shop.project, home, external_asset_key="loader/{name}")
    loader = dg.AssetKey(["loader", "events"])

    @dg.asset(key=loader)
    def events() -> None:
        """Makes the table."""

    users = dg.Definitions(assets=[events])
    automation.location.definitions = dg.Definitions.merge(automation.location.definitions, users)
    tick, run = automation.tick_and_run(NEXT_DAY)
    (request,) = tick.run_requests
    assert dg.AssetCheckKey(loader, "loaded") in (request.asset_check_keys or ())
    assert loader not in (request.asset_selection or ())
    assert run is not None
    assert run.success
    assert run.checks()["loader/events", "loaded"].passed
    assert automation.tick(NEXT_DAY + MINUTE).plan.due == []


def test_checks_without_a_condition_and_those_of_sqlmesh_run_with_their_model(
    automation: Automation,
) -> None:
    tick, run = automation.tick_and_run(NEXT_DAY)
    assert run is not None
    assert run.success
    names = {name.split("__")[0] for asset, name in run.checks() if asset == "shop/totals"}
    assert names == {"stays_true", "paid", "never"}
    assert tick.requested == {"shop/events", "shop/totals"}
