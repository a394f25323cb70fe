"""Models whose rule is to ignore their upstream: requested, and evaluated, without it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from support.ticks import Automation
from support.warehouse import NEXT_DAY, Warehouse, warehouse

PAUSED = {"shop.events": {"paused": True}}


@pytest.fixture
def shop(tmp_path: Path) -> Warehouse:
    return warehouse(tmp_path / "shop")


def tick_and_run(
    shop: Warehouse, instance: dg.DagsterInstance, models: dict[str, Any], **settings: Any
) -> tuple[set[str], dict[str, str]]:
    """What a tick requests, and what became of each model that its run dealt with."""
    automation = Automation.of(shop.project, instance, models=models, **settings)
    tick, run = automation.tick_and_run(NEXT_DAY)
    outcomes = run.by_name() if run is not None else {}
    return tick.requested, {name: outcome.status.value for name, outcome in outcomes.items()}


def test_what_reads_a_paused_model_waits(shop: Warehouse, instance: dg.DagsterInstance) -> None:
    assert tick_and_run(shop, instance, PAUSED) == (set(), {})


def test_a_model_that_ignores_it_is_evaluated_and_the_paused_one_is_not(
    shop: Warehouse, instance: dg.DagsterInstance
) -> None:
    before = shop.intervals()["shop.events"]
    requested, outcomes = tick_and_run(
        shop, instance, {**PAUSED, "shop.totals": {"upstream": "ignore"}}
    )
    assert requested == {"shop/totals", "shop/best"}
    assert outcomes == {"shop.totals": "executed", "shop.best": "executed"}
    assert shop.intervals()["shop.events"] == before


def test_all_models_can_ignore_their_upstream(
    shop: Warehouse, instance: dg.DagsterInstance
) -> None:
    requested, outcomes = tick_and_run(shop, instance, PAUSED, upstream="ignore")
    assert requested == {"shop/totals", "shop/best", "shop/customers"}
    assert set(outcomes) == {"shop.totals", "shop.best", "shop.customers"}


def test_other_models_still_draw_in_what_they_read(
    shop: Warehouse, instance: dg.DagsterInstance
) -> None:
    automation = Automation.of(shop.project, instance, models={"shop.best": {"upstream": "ignore"}})
    run = automation.run(["shop/totals"], NEXT_DAY)
    assert set(run.by_name()) == {"shop.totals", "shop.events"}


def test_a_person_who_runs_an_ignoring_child_runs_no_parent(
    shop: Warehouse, instance: dg.DagsterInstance
) -> None:
    automation = Automation.of(shop.project, instance, upstream="ignore")
    run = automation.run(["shop/totals"], NEXT_DAY)
    assert run.success
    assert run.by_name().keys() == {"shop.totals"}
