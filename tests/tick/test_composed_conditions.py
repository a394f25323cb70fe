"""Conditions that a translator composes with ours, takes away, or leaves as they are."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from support.projects import PLANNED_AT
from support.ticks import Automation

from dagster_sqlmesh_automation import AutomationSettings, SQLMeshTranslator
from dagster_sqlmesh_automation.assets.project.manifest import ManifestModel
from dagster_sqlmesh_automation.automation.definitions import Location

FIRST = datetime(2026, 10, 14, 1, tzinfo=UTC)
NEVER = dg.AutomationCondition.in_progress()
"""Holds for no model here, since nothing runs."""

Change = Callable[[dg.AutomationCondition[Any]], dg.AutomationCondition[Any] | None]


class Changed(SQLMeshTranslator):
    """Changes the condition of one model."""

    def __init__(self, change: Change, model: str = "staging.orders") -> None:
        self.change, self.model = change, model

    def get_automation_condition(
        self, model: ManifestModel, default: dg.AutomationCondition[Any]
    ) -> dg.AutomationCondition[Any] | None:
        return self.change(default) if model.name == self.model else default


@pytest.fixture
def changed(example: Path, instance: dg.DagsterInstance) -> Callable[[Change], Automation]:
    def build(change: Change) -> Automation:
        location = Location(AutomationSettings(project=example), Changed(change))
        return Automation(example, instance, location)

    return build


def test_what_reads_a_model_that_its_own_condition_holds_waits_for_it(
    changed: Callable[[Change], Automation],
) -> None:
    automation = changed(lambda default: default & NEVER)
    tick = automation.tick(FIRST)

    assert tick.requested == {
        "staging/web_events",
        "marketing/sessions",
        "staging/order_items",
        "staging/payments",
    }
    (request,) = tick.run_requests
    assert request.tags["sqlmesh/models"] == "4"
    (orders,) = (e for e in tick.evaluations if e.key == dg.AssetKey(["sales", "orders"]))
    (upstream,) = (
        child
        for child in orders.child_evaluations
        if child.condition_snapshot.name == "upstream ready"
    )
    (reason,) = upstream.child_evaluations
    assert reason.condition_snapshot.label == "waits for staging/orders (held)"
    assert reason.condition_snapshot.name == (
        "upstream staging/orders is due and held by its own condition"
    )


def test_a_model_that_its_own_condition_holds_takes_no_place_from_others(
    example: Path, instance: dg.DagsterInstance
) -> None:
    settings = AutomationSettings(project=example, max_models_per_run=1)
    (first,) = Automation(example, instance, Location(settings)).tick(FIRST).plan.requested

    location = Location(settings, Changed(lambda default: default & NEVER, first.name))
    automation = Automation(example, instance, location)
    location.planner.learn(automation.repository.asset_graph)
    tick = automation.tick(FIRST)
    assert len(tick.requested) == 1
    assert tick.requested.isdisjoint({first.name.replace(".", "/")})
    (ours,) = (e for e in tick.evaluations if e.key == dg.AssetKey(first.name.split(".")))
    assert "by what was added to its automation condition" in str(ours)


def test_a_model_without_a_condition_holds_what_reads_it(
    changed: Callable[[Change], Automation],
) -> None:
    automation = changed(lambda default: None)
    automation.location.planner.learn(automation.repository.asset_graph)
    tick = automation.tick(FIRST)

    assert "staging/orders" not in tick.requested
    assert "sales/orders" not in tick.requested
    held = {decision.name: decision.held for decision in tick.plan.due}
    assert held["staging.orders"] == "not automated: its asset has no automation condition"
    assert held["sales.orders"] == (
        "upstream staging.orders is held: not automated: its asset has no automation condition"
    )


def test_a_composed_condition_is_asked_at_every_tick_and_ours_alone_only_after_a_change(
    changed: Callable[[Change], Automation], instance: dg.DagsterInstance
) -> None:
    """An idle tick of ours evaluates nothing; a user's condition may change its mind."""
    for change, asked in (
        (lambda default: default, False),
        (lambda default: default | NEVER, True),
    ):
        automation = changed(change)
        automation.location.planner.learn(automation.repository.asset_graph)
        first = automation.tick(PLANNED_AT)
        cursor = automation.cursor
        automation.tick(PLANNED_AT)
        assert first.evaluations
        assert (automation.cursor != cursor) is asked
