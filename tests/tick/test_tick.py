"""Ticks and their runs on the example."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from support.ticks import Automation

FIRST = datetime(2026, 10, 14, 1, tzinfo=UTC)


def test_a_tick_asks_for_one_run_of_the_due_models_and_sqlmesh_runs_once(
    automation: Automation, executions: Callable[[], int]
) -> None:
    tick, run = automation.tick_and_run(FIRST)

    assert run is not None
    assert len(tick.run_requests) == 1
    assert tick.requested == {
        "staging/orders",
        "staging/web_events",
        "marketing/sessions",
        "staging/order_items",
        "staging/payments",
        "sales/orders",
        "core/customer_profile",
    }
    assert run.success
    assert set(run.materialized()) == tick.requested
    assert executions() == 1


def test_the_next_tick_is_idle_and_says_what_comes_next(automation: Automation) -> None:
    automation.tick_and_run(FIRST)
    tick = automation.tick(FIRST)

    assert not tick.run_requests
    assert tick.skip_message == (
        "0 of 18 models due; next: marketing.sessions at 2026-10-14 01:05 UTC"
    )
