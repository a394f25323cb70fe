"""Checks that a person executes without their assets: audits are evaluated, and no model is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from support import projects
from support.outcome_helpers import failure
from support.ticks import Automation, Run
from support.warehouse import MODELS, NEXT_DAY, PLANNED_AT, Warehouse, warehouse

from dagster_sqlmesh_automation.assets.lease.server import model_lease
from dagster_sqlmesh_automation.assets.lease.waiting import Wait, database_lease
from dagster_sqlmesh_automation.assets.project.opening import duckdb_files, open_context
from dagster_sqlmesh_automation.automation.facts.past_runs import past_runs
from dagster_sqlmesh_automation.config.settings import AutomationSettings

T = dg.DagsterEventType
Count = Callable[[], int]

FILES = {
    **MODELS,
    "audits/nothing_negative.sql": """
AUDIT (name nothing_negative, standalone true, cron '@daily');
SELECT id FROM shop.events
WHERE day BETWEEN @start_date AND @end_date
  AND EXISTS (SELECT 1 FROM raw.control WHERE model = 'nothing_negative')
""",
    "audits/broken.sql": """
AUDIT (name broken, blocking false); SELECT * FROM raw.broken
""",
    "audits/warns.sql": """
AUDIT (name warns, blocking false); SELECT model FROM raw.control WHERE model = 'warns'
""",
    "models/odd.sql": """
MODEL (name shop.odd, kind FULL, cron '@daily',
  audits (not_null(columns := [n]), broken, warns));
SELECT 1 AS n
""",
    "external_models.yaml": """
- name: raw.events
  columns: {id: int, day: date, country_id: int, amount: int}
  audits:
  - name: not_null
    columns: "[id]"
""",
}
BOTH = pytest.mark.parametrize("shop", ["duckdb", "postgres"], indirect=True)
RAW = ["CREATE TABLE raw.broken (x INT)"]


@pytest.fixture
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Warehouse:
    """On DuckDB; on a server where a test is marked with it."""
    server = getattr(request, "param", "duckdb") == "postgres"
    base = request.getfixturevalue("database") if server else None
    return warehouse(tmp_path / "shop", base, models=FILES, raw=RAW)


@pytest.fixture
def automation(shop: Warehouse, instance: dg.DagsterInstance) -> Automation:
    return Automation.of(shop.project, instance)


def keys(automation: Automation, *names: str) -> list[dg.AssetCheckKey]:
    """Checks by what they are of, such as ``shop.events has_rows``; all of a model without."""
    graph = automation.repository.asset_graph
    found = []
    for name in names:
        model, _, audit = name.partition(" ")
        found += [
            key
            for key in graph.asset_check_keys
            if ".".join(key.asset_key.path) == model
            and key.name != "sqlmesh_environment"
            and key.name.startswith(audit)
        ]
    return found


def pressed(automation: Automation, *names: str, assets: Iterable[str] = ()) -> Run:
    """A run of some checks, and of assets where a person selects them too."""
    selection = {dg.AssetKey(asset.split("/")) for asset in assets}
    return automation.execute(selection, {}, keys(automation, *names))


def results(run: Run) -> dict[str, str]:
    """The results of a run's checks, by asset and audit."""
    return {
        f"{key} {name.partition('__')[0]}": "passed" if check.passed else check.severity.value
        for (key, name), check in run.checks().items()
    }


def shown(automation: Automation, *names: str) -> set[str]:
    """What Dagster shows of checks: ``SUCCEEDED``, ``SKIPPED``, ``EXECUTION_FAILED``, …"""
    import asyncio

    from dagster._core.loader import LoadingContextForTest

    storage = automation.instance.event_log_storage
    wanted = keys(automation, *names)
    records = storage.get_latest_asset_check_execution_by_key(wanted)
    context = LoadingContextForTest(automation.instance)
    return {
        asyncio.run(record.resolve_status(context)).value
        for key, record in records.items()
        if key in wanted
    }


@BOTH
def test_the_audits_are_evaluated_for_what_is_recorded_and_no_model_is(
    automation: Automation, shop: Warehouse, executions: Count
) -> None:
    before, tables = shop.intervals(), shop.tables()

    run = pressed(automation, "shop.events", "shop.totals")

    assert run.success
    assert results(run) == {
        "shop/events stays_true": "passed",
        "shop/events has_rows": "passed",
        "shop/events nothing_negative": "passed",
        "shop/totals stays_true": "passed",
    }
    assert sorted(outcome.summary() for outcome in run.outcomes.values()) == [
        "audits of nothing_negative: 1 of 1 passed",
        "audits of shop.events: 2 of 2 passed",
        "audits of shop.totals: 1 of 1 passed",
    ]
    started = [event.message.partition(" (its start")[0] for event in run.events(T.ENGINE_EVENT)]
    assert "SQLMesh execution of the audits of 3 alone started" in started
    check = next(iter(run.checks().values()))
    assert check.metadata["sqlmesh/intervals"].value == [
        ["2026-10-01T00:00:00+00:00", PLANNED_AT.isoformat()]
    ]
    # Nothing else has come about: SQLMesh's scheduler did not run.
    assert executions() == 0
    assert run.materialized() == {}
    assert (shop.intervals(), shop.tables()) == (before, tables)
    # Nor has the automation been told of any of it.
    tick = automation.tick(NEXT_DAY)
    assert {"shop/events", "shop/totals"} <= tick.requested


def test_of_a_model_s_checks_those_that_are_asked_for(automation: Automation) -> None:
    run = pressed(automation, "shop.events has_rows")
    assert run.success
    assert results(run) == {"shop/events has_rows": "passed"}


def test_an_audit_that_fails_is_reported_with_its_severity_and_the_good_ones_stay_good(
    automation: Automation, shop: Warehouse
) -> None:
    odd = {"shop/odd not_null": "passed", "shop/odd broken": "passed", "shop/odd warns": "WARN"}
    shop.fail("warns")
    run = pressed(automation, "shop.odd")
    assert run.success
    assert results(run) == odd

    shop.fail("shop.totals audit", "warns")
    run = pressed(automation, "shop.odd", "shop.totals", "shop.customers")
    assert not run.success
    assert results(run) == {
        **odd,
        "shop/customers stays_true": "passed",
        "shop/totals stays_true": "ERROR",
    }
    assert failure(run, "shop/totals")[0].startswith(
        "audits of shop.totals: blocking audit failed: stays_true__"
    )
    assert run.steps(T.STEP_FAILURE) == {"shop__totals"}
    assert not run.steps(T.STEP_UP_FOR_RETRY)


def test_no_attempt_of_a_model_and_no_run_in_progress(
    automation: Automation, shop: Warehouse
) -> None:
    shop.fail("shop.totals audit")
    _, failed = automation.tick_and_run(NEXT_DAY)
    assert failed is not None
    assert not failed.success

    def held() -> dict[str, str | None]:
        plan = automation.location.planner.plan(automation.instance, NEXT_DAY)
        return {decision.name: decision.held for decision in plan.due}

    before = held()
    assert before["shop.totals"] is not None
    for _ in range(3):
        assert not pressed(automation, "shop.totals", "shop.events").success
    assert held() == before
    shop.fail()
    assert pressed(automation, "shop.totals").success
    assert held() == before, "it was not evaluated, so that the failed attempt counts on"

    job = automation.location.definitions.resolve_implicit_global_asset_job_def()
    checks = set(keys(automation, "shop.totals", "shop.events"))
    subset = job.get_subset(asset_selection=set(), asset_check_selection=checks)
    automation.instance.create_run_for_job(subset, status=dg.DagsterRunStatus.STARTED)
    assert held() == before


def test_standalone_audits_and_external_models(
    automation: Automation, shop: Warehouse, executions: Count
) -> None:
    """Both are nothing but audits, which SQLMesh evaluates and records like models."""
    shown_on = ("shop.events nothing_negative", "raw.control nothing_negative")
    run = pressed(automation, *shown_on, "raw.events")
    assert run.success
    assert results(run) == {
        "shop/events nothing_negative": "passed",
        "raw/control nothing_negative": "passed",
        "raw/events not_null": "passed",
    }
    assert executions() == 0

    shop.fail("nothing_negative")
    assert results(pressed(automation, shown_on[0])) == {"shop/events nothing_negative": "WARN"}
    assert results(pressed(automation, shown_on[1])) == {"raw/control nothing_negative": "WARN"}
    (audit,) = automation.location.manifest.standalone_audits

    def state() -> Any:
        plan = automation.location.planner.plan(automation.instance, NEXT_DAY)
        decision = plan.decisions[audit.fqn]
        return decision.held, decision.requested, decision.due

    # The tick knows of no run of it, and evaluates and records it as ever.
    assert state()[2] is not None
    assert state()[0] is None or "failed" not in state()[0]
    shop.fail()
    tick, run_ = automation.tick_and_run(NEXT_DAY)
    assert tick.requested
    assert run_ is not None
    assert run_.by_name()["nothing_negative"].status == "executed"
    history = past_runs(automation.location.index, automation.instance, audit.fqn, 5)
    assert [run.outcome is not None for run in history] == [True, False, False]
    assert history[1].text == "audits of nothing_negative: 0 of 1 passed"

    # A button that is pressed later changes nothing of what a tick has recorded.
    before = state()
    assert pressed(automation, *shown_on).success
    assert state() == before


@BOTH
def test_an_audit_that_cannot_be_evaluated_takes_no_other_with_it(
    automation: Automation, shop: Warehouse
) -> None:
    shop.query("DROP TABLE raw.broken")
    run = pressed(automation, "shop.odd", "shop.totals")
    assert not run.success
    assert results(run) == {
        "shop/odd not_null": "passed",
        "shop/odd warns": "passed",
        "shop/totals stays_true": "passed",
    }
    assert failure(run, "shop/odd")[0].startswith("audits of shop.odd could not all be evaluated")


def test_what_cannot_be_told_makes_no_good_check_red(
    automation: Automation, shop: Warehouse
) -> None:
    assert pressed(automation, "shop.totals", "shop.best").success
    # A definition that the environment does not hold any more.
    (shop.project / "models" / "best.sql").unlink()
    projects.plan(shop.project, PLANNED_AT)
    run = pressed(automation, "shop.best", "shop.totals")
    assert run.success
    assert results(run) == {"shop/totals stays_true": "passed"}
    assert shown(automation, "shop.best") == {"SKIPPED"}
    assert any("not in environment 'prod'" in line for line in run.log())

    # A plan that is being applied, for longer than a run waits.
    projects.begin_plan(shop.project)
    config = shop.project / "config.yaml"
    config.write_text(config.read_text() + "run: {environment_check_max_wait: 1}\n")
    run = pressed(automation, "shop.totals")
    assert run.success
    assert results(run) == {}
    assert shown(automation, "shop.totals") == {"SKIPPED"}
    assert any("is being changed by plan" in line for line in run.log()), "\n".join(run.log())


@BOTH
def test_what_another_run_holds_is_waited_for_and_then_left_as_it_is(
    shop: Warehouse, instance: dg.DagsterInstance
) -> None:
    settings = {"lease_timeout_seconds": 1, "max_concurrent_executions": 1}
    automation = Automation.of(shop.project, instance, **settings)
    assert pressed(automation, "shop.totals").success
    with _held(shop):
        run = pressed(automation, "shop.totals")
    assert run.success
    assert shown(automation, "shop.totals") == {"SKIPPED"}
    assert any("The checks have no result from this run" in line for line in run.log())
    assert pressed(automation, "shop.totals").success
    assert shown(automation, "shop.totals") == {"SUCCEEDED"}


@contextmanager
def _held(shop: Warehouse) -> Iterator[None]:
    """What another run of the environment has, as long as it lasts."""
    settings = AutomationSettings(project=shop.project)
    with (
        open_context(settings, load=False) as context,
        database_lease(duckdb_files(context), Wait(0), "run 4f1c"),
        model_lease(context, "prod", "4f1c", executions=1, wait=Wait(0)) as lease,
    ):
        lease.hold({"any": "shop.any"})
        yield


@BOTH
def test_checks_of_one_model_with_the_materialization_of_others(
    automation: Automation, shop: Warehouse, executions: Count
) -> None:
    run = pressed(automation, "shop.events", assets=["shop/best"])
    assert run.success
    assert executions() == 1
    assert results(run) == {
        "shop/events stays_true": "passed",
        "shop/events has_rows": "passed",
        "shop/events nothing_negative": "passed",
    }

    shop.fail("shop.events audit")
    before = shop.intervals()
    run = pressed(automation, "shop.events", assets=["shop/totals"])
    assert not run.success
    assert results(run)["shop/events stays_true"] == "ERROR"
    assert run.materialized() == {}
    assert shop.intervals() == before, "what reads it is not evaluated, as Dagster shows"
    assert run.by_name()["shop.totals"].reason == "upstream audits of shop.events failed"


def test_dagster_offers_each_check_alone(automation: Automation) -> None:
    graph = automation.repository.asset_graph
    assert {graph.get_execution_set_identifier(key) for key in graph.asset_check_keys} == {None}


def test_a_run_of_nothing_but_a_check_of_drift_audits_nothing(automation: Automation) -> None:
    drift = dg.AssetCheckKey(dg.AssetKey(["shop", "totals"]), "sqlmesh_environment")
    run = automation.execute(set(), {}, [drift])
    assert run.success
    assert run.outcomes == {}
    assert set(run.drift()) == {"shop/totals"}
