"""Attempts read from real runs: what failed is asked for again, and how often."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from support import projects
from support.ticks import Automation, Run, Tick
from support.warehouse import MODELS, NEXT_DAY, Warehouse, warehouse

TOTALS = "shop/totals"
MINUTE = timedelta(minutes=1)
FEW = {
    path: text
    for path, text in MODELS.items()
    if path in {"models/events.sql", "models/totals.sql"} or path.startswith("audits/")
}
LIVE = {
    **FEW,
    "models/live.sql": """
MODEL (name shop.live, kind INCREMENTAL_BY_TIME_RANGE (time_column day), cron '*/5 * * * *',
  interval_unit 'day', allow_partials true);
SELECT id, day, amount + {fail} AS amount FROM raw.events
WHERE day BETWEEN @start_date AND @end_date
""",
}
AUDITED = {
    **FEW,
    "audits/paid.sql": """
AUDIT (name paid, standalone true, cron '@hourly');
SELECT * FROM shop.totals WHERE amount < 0
""",
}

RETRY = {"max_attempts": 3, "delay_seconds": 300, "max_delay_seconds": 3600}


class Days:
    """The automation of a project, tick after tick; made anew for each where asked."""

    def __init__(
        self, shop: Warehouse, instance: dg.DagsterInstance, *, anew: bool = False
    ) -> None:
        self.shop, self.instance, self.anew = shop, instance, anew
        self.automation = Automation.of(shop.project, instance, retry=RETRY)

    def at(self, moment: datetime) -> tuple[Tick, Run | None]:
        if self.anew:  # a new process, and the cursor is lost
            self.automation = Automation.of(self.shop.project, self.instance, retry=RETRY)
        return self.automation.tick_and_run(moment)

    def held(self, moment: datetime, model: str = "shop.totals") -> str:
        tick, run = self.at(moment)
        assert run is None, tick.requested
        (decision,) = (d for d in tick.plan.decisions.values() if d.name == model)
        return decision.held

    def attempts(self, moments: Sequence[datetime], model: str = TOTALS) -> None:
        """At each of these the model is asked for and fails, and a second earlier it is not."""
        for moment in moments:
            if moment != moments[0]:
                self.held(moment - timedelta(seconds=1))
            tick, run = self.at(moment)
            assert model in tick.requested, tick.skip_message
            assert run is not None
            assert not run.success


THREE = [NEXT_DAY, NEXT_DAY + 5 * MINUTE, NEXT_DAY + 15 * MINUTE]


@pytest.fixture
def shop(tmp_path: Path) -> Warehouse:
    return warehouse(tmp_path / "project", models=FEW)


@pytest.mark.parametrize("anew", [False, True], ids=["one process", "nothing is remembered"])
def test_a_model_that_fails_is_asked_for_three_times_and_then_at_its_next_cron_tick(
    shop: Warehouse, instance: dg.DagsterInstance, anew: bool
) -> None:
    days = Days(shop, instance, anew=anew)
    shop.fail("shop.totals")
    days.attempts(THREE)

    run_id = instance.get_runs(limit=1)[0].run_id
    assert days.held(NEXT_DAY + timedelta(hours=23, minutes=59)) == (
        f"failed in run {run_id}, attempt 3 of 3; "
        "tried again at its next cron tick, 2026-10-10 00:00 UTC"
    )
    tick, run = days.at(NEXT_DAY + timedelta(days=1))
    assert tick.requested == {"shop/events", TOTALS}
    assert run is not None
    assert days.held(NEXT_DAY + timedelta(days=1, minutes=4)) == (
        f"failed in run {run.run_id}; attempt 2 of 3 at 2026-10-10 00:05 UTC"
    )
    shop.fail()
    _, run = days.at(NEXT_DAY + timedelta(days=1, minutes=5))
    assert run is not None
    assert run.success


def test_after_its_last_attempt_a_new_plan_asks_for_it_again(
    shop: Warehouse, instance: dg.DagsterInstance
) -> None:
    days = Days(shop, instance)
    shop.fail("shop.totals")
    days.attempts(THREE)
    days.held(NEXT_DAY + timedelta(hours=1))

    (shop.project / "models" / "more.sql").write_text(
        "MODEL (name shop.more, kind VIEW, cron '@daily'); SELECT 1 AS x"
    )
    projects.plan(shop.project, NEXT_DAY)
    days.attempts([NEXT_DAY + timedelta(hours=1)])
    assert "attempt 2 of 3 at 2026-10-09 01:05 UTC" in days.held(NEXT_DAY + timedelta(hours=1))


def test_a_rule_gives_a_model_its_own_retries(
    shop: Warehouse, instance: dg.DagsterInstance
) -> None:
    rule = {"retry": {"max_attempts": 2, "delay_seconds": 60}}
    days = Days(shop, instance)
    days.automation = Automation.of(
        shop.project, instance, retry=RETRY, models={"shop.totals": rule}
    )
    shop.fail("shop.totals")
    days.attempts([NEXT_DAY, NEXT_DAY + MINUTE])
    assert "attempt 2 of 2; tried again at its next cron tick" in days.held(NEXT_DAY + 30 * MINUTE)


@contextmanager
def locked(shop: Warehouse) -> Iterator[None]:
    """Another program has the DuckDB file open."""
    code = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('open', flush=True); input()"
    file = str(shop.project / "warehouse.duckdb")
    with subprocess.Popen(
        [sys.executable, "-c", code, file], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        yield
        other.communicate("\n", timeout=60)


def test_a_run_that_dies_before_it_tries_is_no_attempt(
    shop: Warehouse, instance: dg.DagsterInstance
) -> None:
    days = Days(shop, instance)
    days.automation = Automation.of(shop.project, instance, retry=RETRY, lease_timeout_seconds=0)
    shop.fail("shop.totals")
    for number in range(2):
        tick = days.automation.tick(NEXT_DAY + number * timedelta(seconds=1))
        (request,) = tick.run_requests
        with locked(shop):
            run = days.automation.execute(set(request.asset_selection or ()), request.tags)
        assert not run.success
        assert not run.outcomes

    assert days.held(NEXT_DAY + timedelta(seconds=30), "shop.events") == (
        f"not evaluated in run {run.run_id}; tried again at 2026-10-09 00:01:01 UTC"
    )
    first = NEXT_DAY + timedelta(seconds=61)
    days.attempts([first, first + 5 * MINUTE, first + 15 * MINUTE])
    assert "attempt 3 of 3" in days.held(first + 60 * MINUTE)


def test_a_cancelled_run_is_not_repeated_before_the_next_cron_tick(
    shop: Warehouse, instance: dg.DagsterInstance
) -> None:
    days = Days(shop, instance)
    (request,) = days.automation.tick(NEXT_DAY).run_requests
    job = days.automation.location.definitions.resolve_implicit_global_asset_job_def()
    run = instance.create_run_for_job(
        job.get_subset(asset_selection=set(request.asset_selection or ())),
        asset_selection=frozenset(request.asset_selection or ()),
        status=dg.DagsterRunStatus.STARTED,
        tags=dict(request.tags),
    )
    assert days.held(NEXT_DAY) == f"run {run.run_id} is evaluating it"
    instance.report_run_canceled(run)

    assert days.held(NEXT_DAY + timedelta(hours=23), "shop.events") == (
        f"cancelled in run {run.run_id}; tried again at its next cron tick, 2026-10-10 00:00 UTC"
    )
    tick, _ = days.at(NEXT_DAY + timedelta(days=1))
    assert tick.requested == {"shop/events", TOTALS}


def test_a_partial_interval_is_requested_once_for_each_tick_of_its_schedule(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    shop = warehouse(tmp_path / "project", models=LIVE)
    days = Days(shop, instance)
    rule = {"schedule": "0 * * * *", "retry": {"delay_seconds": 60}}
    days.automation = Automation.of(shop.project, instance, retry=RETRY, models={"shop.live": rule})

    def requested(hour: int, minute: int) -> bool:
        tick, _ = days.at(NEXT_DAY + timedelta(hours=hour, minutes=minute))
        return "shop/live" in tick.requested

    assert requested(6, 0)
    assert not requested(6, 0)
    assert not requested(6, 59)
    shop.fail("shop.live")
    assert requested(7, 0)
    assert not requested(7, 0)
    assert requested(7, 1), "a failure is not the end of its window"
    shop.fail()
    assert requested(7, 3)
    assert not requested(7, 30)
    assert requested(8, 10)


def test_the_least_gap_counts_for_standalone_audits_too(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    shop = warehouse(tmp_path / "project", models=AUDITED)
    automation = Automation.of(
        shop.project, instance, models={"paid": {"min_gap_seconds": 3 * 3600}}
    )

    def audited(hour: int) -> bool:
        tick, _ = automation.tick_and_run(NEXT_DAY + timedelta(hours=hour))
        return any(decision.is_audit for decision in tick.plan.requested)

    assert [hour for hour in range(7) if audited(hour)] == [0, 3, 6]
