"""OpenTelemetry metrics of ticks and executions, and the dashboard over them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from support.projects import ROOT
from support.ticks import Automation
from support.warehouse import NEXT_DAY, Warehouse, warehouse

from dagster_sqlmesh_automation.assets.ledger.outcome import OutcomeStatus
from dagster_sqlmesh_automation.automation.tick.decision import REASONS
from dagster_sqlmesh_automation.automation.tick.metrics import TickMetrics
from dagster_sqlmesh_automation.config.settings import AutomationSettings

READER = InMemoryMetricReader()
HERE = {"sqlmesh.environment": "prod", "sqlmesh.project": "measured"}

Points = dict[str, dict[tuple[tuple[str, Any], ...], Any]]


@pytest.fixture(scope="module", autouse=True)
def provider() -> MeterProvider:
    """An SDK, as a deployment configures one; a process takes one only."""
    found = MeterProvider(metric_readers=[READER])
    metrics.set_meter_provider(found)
    return found


def points() -> Points:
    """Each metric's points of the environment under test, without what they have in common."""
    data = READER.get_metrics_data()
    found: Points = {}
    for resource in data.resource_metrics if data is not None else ():
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                for point in metric.data.data_points:
                    given = dict(point.attributes or {})
                    if {key: given.pop(key, None) for key in HERE} == HERE:
                        found.setdefault(metric.name, {})[tuple(sorted(given.items()))] = point
    return found


@pytest.fixture
def shop(tmp_path: Path) -> Warehouse:
    return warehouse(tmp_path / "shop")


@pytest.fixture
def tick(shop: Warehouse, instance: dg.DagsterInstance) -> Callable[..., Any]:
    def ticked(**settings: Any) -> Any:
        automation = Automation.of(shop.project, instance, name="measured", **settings)
        measured = TickMetrics(automation.location.settings)
        with measured:
            measured.planned(automation.location.planner.plan(instance, NEXT_DAY))
        return automation

    return ticked


def test_a_tick_and_its_execution_are_measured(tick: Callable[..., Any]) -> None:
    automation = tick()
    found = points()
    assert found["sqlmesh_automation.models.due"][()].value == 4
    assert found["sqlmesh_automation.models.requested"][()].value == 4
    assert found["sqlmesh_automation.tick.duration"][()].count == 1
    assert found["sqlmesh_automation.models.held"].keys() == {(("reason", r),) for r in REASONS}
    assert not any(point.value for point in found["sqlmesh_automation.models.held"].values())

    automation.tick_and_run(NEXT_DAY)
    found = points()
    outcomes = found["sqlmesh_automation.outcomes"]
    assert {key: point.value for key, point in outcomes.items()} == {(("status", "executed"),): 4}
    assert found["sqlmesh_automation.execution.duration"][()].count == 1
    assert 0 < found["sqlmesh_automation.execution.duration"][()].sum < 120
    assert found["sqlmesh_automation.lease.wait.duration"][()].count == 1


def test_what_holds_models_is_told_and_forgotten(tick: Callable[..., Any]) -> None:
    tick(models={"shop.events": {"paused": True}})
    held = points()["sqlmesh_automation.models.held"]
    assert {dict(key)["reason"]: point.value for key, point in held.items() if point.value} == {
        "schedule": 1,
        "upstream": 3,
    }
    tick()
    held = points()["sqlmesh_automation.models.held"]
    assert not any(point.value for point in held.values())


def test_failures_are_counted_by_status(tick: Callable[..., Any], shop: Warehouse) -> None:
    automation = tick()
    before = points().get("sqlmesh_automation.outcomes", {})
    shop.fail("shop.totals")
    automation.tick_and_run(NEXT_DAY)
    after = points()["sqlmesh_automation.outcomes"]

    def count(status: OutcomeStatus) -> int:
        key = (("status", status.value),)
        known = before[key].value if key in before else 0
        return int(after[key].value - known)

    assert count(OutcomeStatus.FAILED) == 1
    assert count(OutcomeStatus.SKIPPED) == 1
    assert count(OutcomeStatus.EXECUTED) == 2


def test_a_tick_that_fails_is_measured_with_its_error() -> None:
    with (
        pytest.raises(ValueError, match="broken"),
        TickMetrics(AutomationSettings(project="/srv/shop", name="measured")),
    ):
        raise ValueError("broken")
    assert points()["sqlmesh_automation.tick.duration"][(("error.type", "ValueError"),)].count == 1


def test_what_is_measured_is_sent_before_a_run_ends(
    tick: Callable[..., Any], provider: MeterProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[Any] = []
    monkeypatch.setattr(provider, "force_flush", lambda *given: flushed.append(given))
    tick().tick_and_run(NEXT_DAY)
    assert len(flushed) == 1


def test_the_sensor_measures_its_ticks(shop: Warehouse, instance: dg.DagsterInstance) -> None:
    automation = Automation.of(shop.project, instance, name="measured")
    location = automation.location
    known = points().get("sqlmesh_automation.tick.duration", {}).get(())
    before = known.count if known is not None else 0
    with dg.build_sensor_context(
        instance=instance, repository_def=location.definitions.get_repository_def()
    ) as context:
        location.sensor.evaluate_tick(context)
    assert points()["sqlmesh_automation.tick.duration"][()].count == before + 1


PROMETHEUS = {
    "sqlmesh_automation.tick.duration": "sqlmesh_automation_tick_duration_seconds",
    "sqlmesh_automation.models.due": "sqlmesh_automation_models_due",
    "sqlmesh_automation.models.held": "sqlmesh_automation_models_held",
    "sqlmesh_automation.models.requested": "sqlmesh_automation_models_requested_total",
    "sqlmesh_automation.lease.wait.duration": "sqlmesh_automation_lease_wait_duration_seconds",
    "sqlmesh_automation.execution.duration": "sqlmesh_automation_execution_duration_seconds",
    "sqlmesh_automation.outcomes": "sqlmesh_automation_outcomes_total",
}
"""By OpenTelemetry's rules: dots, then the unit in words, then ``_total`` for counters."""


def test_the_dashboard_and_the_docs_name_every_metric_and_no_other() -> None:
    text = (ROOT / "deploy" / "grafana" / "sqlmesh-automation.json").read_text()
    assert json.loads(text)["panels"]
    shown = set(re.findall(r"\bsqlmesh_automation_[a-z_]+", text))
    shown = {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown}
    assert shown == set(PROMETHEUS.values())
    docs = (ROOT / "docs" / "monitoring.md").read_text()
    assert set(re.findall(r"`(sqlmesh_automation\.[a-z.]+)`", docs)) == PROMETHEUS.keys()
    source = "".join(
        (ROOT / path).read_text()
        for path in ("assets/execution/metrics.py", "automation/tick/metrics.py")
    )
    assert set(re.findall(r'"(sqlmesh_automation\.[a-z.]+)"', source)) == PROMETHEUS.keys()
