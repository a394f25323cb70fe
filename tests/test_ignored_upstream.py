"""``upstream: ignore``: the child runs, and SQLMesh does not draw its held parent in after all."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest
from support.ticks import Automation
from support.warehouse import NEXT_DAY, Warehouse, warehouse

PAUSED = {"shop.events": {"paused": True}}
IGNORING = {**PAUSED, "shop.totals": {"upstream": "ignore"}}


@pytest.fixture
def shop(tmp_path: Path) -> Warehouse:
    return warehouse(tmp_path / "shop")


def test_a_paused_parent_is_not_evaluated_while_its_ignoring_child_runs(
    shop: Warehouse, instance: dg.DagsterInstance
) -> None:
    before = shop.intervals()
    automation = Automation.of(shop.project, instance, models=IGNORING)
    tick, run = automation.tick_and_run(NEXT_DAY)
    # Also what reads the child: nothing holds what is above it.
    assert tick.requested == {"shop/totals", "shop/best"}
    assert run is not None
    assert run.success
    assert run.by_name().keys() == {"shop.totals", "shop.best"}
    after = shop.intervals()
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {name for name in after if "totals" in name or "best" in name}


def test_a_person_who_runs_an_ignoring_child_runs_no_parent(
    shop: Warehouse, instance: dg.DagsterInstance
) -> None:
    automation = Automation.of(shop.project, instance, upstream="ignore")
    run = automation.run(["shop/totals"], NEXT_DAY)
    assert run.success
    assert run.by_name().keys() == {"shop.totals"}


def test_a_parent_is_drawn_in_through_a_child_that_does_not_ignore_it(
    shop: Warehouse, instance: dg.DagsterInstance
) -> None:
    automation = Automation.of(shop.project, instance, models=IGNORING)
    run = automation.run(["shop/totals", "shop/customers"], NEXT_DAY)
    assert run.success
    assert run.by_name().keys() == {"shop.totals", "shop.customers", "shop.events"}
