"""The last run of a model stays known, whatever else is reported of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa
from support.postgres import Database
from support.ticks import Automation
from support.warehouse import MODELS, NEXT_DAY, Warehouse, warehouse

from dagster_sqlmesh_automation.automation.facts.facts import Attempt, Node
from dagster_sqlmesh_automation.automation.facts.runs import RunReader

FEW = {
    path: text
    for path, text in MODELS.items()
    if path in {"models/events.sql", "models/totals.sql"} or path.startswith("audits/")
}
AUDITED = {
    **FEW,
    "audits/paid.sql": """
AUDIT (name paid, standalone true, cron '@daily');
SELECT * FROM shop.totals WHERE amount < 0
""",
}
RETRY = {"max_attempts": 3, "delay_seconds": 300, "max_delay_seconds": 3600}
LATER = NEXT_DAY + timedelta(minutes=10)
HOURLY = {
    "models/hour.sql": "MODEL (name shop.hour, kind FULL, cron '@hourly'); SELECT 1 AS x",
    "audits/kept.sql": """
AUDIT (name kept, standalone true, cron '@hourly');
SELECT * FROM shop.hour WHERE x < 0
""",
}
HOUR = dg.AssetKey(["shop", "hour"])
EVENTS, TOTALS = dg.AssetKey(["shop", "events"]), dg.AssetKey(["shop", "totals"])


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    """A project planned once; ticks of it do not evaluate anything here."""
    return warehouse(tmp_path_factory.mktemp("shop") / "project", models=AUDITED)


@pytest.fixture(params=["sqlite", "postgres"])
def home(
    request: pytest.FixtureRequest, tmp_path: Path, database: Database
) -> Iterator[dg.DagsterInstance]:
    yaml = "telemetry: {enabled: false}\n"
    (tmp_path / "dagster.yaml").write_text(
        yaml if request.param == "sqlite" else database.dagster_yaml
    )
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        yield instance


def waiting_run(automation: Automation, *, selected: bool = True) -> dg.DagsterRun:
    """The run that a tick asks for, not started; of a whole job where it selects nothing."""
    (request,) = automation.tick(NEXT_DAY).run_requests
    job = automation.location.definitions.resolve_implicit_global_asset_job_def()
    keys, checks = set(request.asset_selection or ()), set(request.asset_check_keys or ())
    return automation.instance.create_run_for_job(
        job.get_subset(asset_selection=keys, asset_check_selection=checks),
        asset_selection=frozenset(keys) if selected else None,
        status=dg.DagsterRunStatus.NOT_STARTED,
        tags=dict(request.tags),
    )


def attempts(automation: Automation) -> dict[str, list[Attempt]]:
    """What ten minutes later counts as each model's attempts, while nothing is requested."""
    tick = automation.tick(LATER)
    assert not tick.requested
    return {
        fqn.replace('"', "").removeprefix("warehouse."): list(row)
        for fqn, row in tick.plan.attempts.items()
    }


MATERIALIZATIONS = [dg.AssetMaterialization(EVENTS), dg.AssetMaterialization(TOTALS)]
CHECKS = [
    dg.AssetCheckEvaluation(asset_key=TOTALS, check_name=name, passed=True)
    for name in ("paid", "stays_true")
]
REPORTS: dict[str, list[Any]] = {
    "materializations": MATERIALIZATIONS,
    "checks": CHECKS,
    "everything": [*MATERIALIZATIONS, dg.AssetObservation(TOTALS), *CHECKS],
}


def report(instance: dg.DagsterInstance, reports: list[Any], *, in_a_run: bool) -> None:
    """Reports something of the models, without a run or from a run of other things."""

    @dg.op
    def others(context) -> None:  # type: ignore[no-untyped-def]
        for event in reports:
            context.log_event(event)

    @dg.job
    def of_others() -> None:
        others()

    if in_a_run:
        assert of_others.execute_in_process(instance=instance).success
        return
    for event in reports:
        instance.report_runless_asset_event(event)


@pytest.mark.parametrize("in_a_run", [False, True], ids=["runless", "in another run"])
@pytest.mark.parametrize(
    ("reported", "selected"),
    [("materializations", True), ("checks", True), ("everything", True), ("everything", False)],
    ids=["materializations", "checks", "everything", "everything, after a run of a whole job"],
)
def test_a_cancelled_run_holds_its_models_whatever_is_reported_of_them(
    reported: str, selected: bool, in_a_run: bool, planned: Warehouse, home: dg.DagsterInstance
) -> None:
    automation = Automation.of(planned.project, home, retry=RETRY)
    run = waiting_run(automation, selected=selected)
    home.report_run_canceled(run)
    before = attempts(automation)
    assert len(before) == 3
    assert {attempt.run_id for row in before.values() for attempt in row} == {run.run_id}
    report(home, REPORTS[reported], in_a_run=in_a_run)
    assert attempts(automation) == before
    assert attempts(Automation.of(planned.project, home, retry=RETRY)) == before


def test_what_is_reported_while_a_run_waits_does_not_hide_that_it_was_cancelled(
    planned: Warehouse, instance: dg.DagsterInstance
) -> None:
    automation = Automation.of(planned.project, instance, retry=RETRY)
    run = waiting_run(automation)
    report(instance, REPORTS["everything"], in_a_run=False)
    assert not attempts(automation)
    instance.report_run_canceled(run)
    assert len(attempts(automation)) == 3


def test_failures_before_and_after_a_report_count_together(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    shop = warehouse(tmp_path / "project", models=FEW)
    automation = Automation.of(shop.project, instance, retry=RETRY)
    shop.fail("shop.totals")

    def fails(minutes: int) -> str:
        at = NEXT_DAY + timedelta(minutes=minutes)
        tick, run = automation.tick_and_run(at)
        assert "shop/totals" in tick.requested
        assert run is not None
        report(instance, MATERIALIZATIONS, in_a_run=False)
        (decision,) = automation.tick(at).plan.due
        return decision.held

    assert "attempt 2 of 3" in fails(0)
    assert "attempt 3 of 3" in fails(5)
    assert "attempt 3 of 3; tried again at its next cron tick" in fails(15)


def test_a_success_ends_the_hold_whatever_is_reported_after_it(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    shop = warehouse(tmp_path / "project", models=FEW)
    automation = Automation.of(shop.project, instance, retry=RETRY)
    instance.report_run_canceled(waiting_run(automation))
    report(instance, MATERIALIZATIONS, in_a_run=False)
    held = automation.tick(LATER).plan
    assert {row[0].why for row in held.attempts.values()} == {"cancelled"}

    run = automation.run(["shop/events", "shop/totals"], NEXT_DAY)
    assert run.success
    nodes = [Node(decision.model, decision.name, (), "@daily") for decision in held.due]

    def newest(runs: RunReader) -> set[tuple[str, str]]:
        # No tick would read their attempts: they are due no longer.
        rows = runs.attempts(instance, nodes, held.state)
        return {(row[0].run_id, row[0].why) for row in rows.values()}

    runs = RunReader(automation.location.index)
    assert newest(runs) == {(run.run_id, "evaluated")}
    report(instance, MATERIALIZATIONS, in_a_run=False)
    assert newest(runs) == {(run.run_id, "evaluated")}
    assert newest(RunReader(automation.location.index)) == {(run.run_id, "evaluated")}


@pytest.mark.parametrize("in_a_run", [False, True], ids=["runless", "in another run"])
def test_the_least_gap_counts_from_the_last_run_whatever_is_reported_since(
    in_a_run: bool, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    shop = warehouse(tmp_path / "project", models=HOURLY)
    rule = {"min_gap_seconds": 3 * 3600}
    automation = Automation.of(shop.project, instance, models={"*": rule})
    reports = [
        dg.AssetMaterialization(HOUR),
        dg.AssetCheckEvaluation(asset_key=HOUR, check_name="kept", passed=True),
    ]

    def requested(at: datetime) -> set[str]:
        tick, _ = automation.tick_and_run(at)
        report(instance, reports, in_a_run=in_a_run)
        return {decision.name for decision in tick.plan.requested}

    names = [requested(NEXT_DAY + timedelta(hours=hour)) for hour in range(5)]
    assert names == [{"shop.hour", "kept"}, set(), set(), {"shop.hour", "kept"}, set()]


@contextmanager
def counted() -> Iterator[list[str]]:
    """The statements that Dagster's storage executes in this process."""
    statements: list[str] = []

    def executed(_c: Any, _u: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    sa.event.listen(sa.Engine, "before_cursor_execute", executed)
    try:
        yield statements
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", executed)


@pytest.fixture(scope="module", params=[2, 40], ids=["2 models", "40 models"])
def many(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    """A project of so many models, planned once."""
    models = {
        f"models/m{number}.sql": f"MODEL (name shop.m{number}, kind FULL, cron '@daily'); SELECT 1"
        " AS x"
        for number in range(request.param)
    }
    return warehouse(tmp_path_factory.mktemp("many") / "project", models=models)


def test_how_many_queries_a_tick_makes_does_not_depend_on_how_many_models_there_are(
    many: Warehouse, home: dg.DagsterInstance
) -> None:
    automation = Automation.of(many.project, home, retry=RETRY)

    def queries(at: datetime) -> int:
        with counted() as statements:
            automation.location.planner.plan(home, at)
        return len(statements)

    assert queries(NEXT_DAY - timedelta(seconds=1)) == 0, "nothing is due"
    home.report_run_canceled(waiting_run(automation, selected=False))
    assert queries(LATER) <= 16
    held = queries(LATER)
    keys = automation.location.index.keys.values()
    report(home, [dg.AssetMaterialization(key) for key in keys], in_a_run=False)
    assert queries(LATER) <= held + 4, "it looks once for the run before the reports"
    assert queries(LATER) <= held
