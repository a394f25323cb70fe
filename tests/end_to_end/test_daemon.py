"""The real thing: ``dagster dev`` on the example, with webserver, daemon, code server and runs.

One deployment for the module. Its project has been set back in time, so that at the first real
tick nearly everything is due. What is to be expected, SQLMesh says itself: on a second copy of the
project, as of the moment of the tick, without any of this package.

Crons of five minutes elapse while the tests run, and the daemon then makes a run more.
"""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support import projects
from support.deployment import (
    Deployment,
    Evaluation,
    LiveRun,
    LiveTick,
    database_open_elsewhere,
)
from support.outcome_helpers import intervals

from dagster_sqlmesh_automation.assets.lease.waiting import DuckDBFile, Wait, database_lease

pytestmark = pytest.mark.slow

HELD = "only its lookback is ready: signal raw_loads_complete holds it"
FED_BY_THE_LOADER = {"sales/daily_revenue", "sales/revenue_by_store", "sales/weekly_summary"}

Ranges = list[tuple[datetime, datetime]]


@dataclass(frozen=True)
class BySqlmesh:
    """What SQLMesh itself does at the moment of the first tick.

    Attributes:
        models: The intervals that it evaluates, contiguous ones joined, by the model's name.
        audits: The same of standalone audits.
        recorded: What its state holds afterwards, by the model's name.
        project: Where it did so.
    """

    models: Mapping[str, Ranges]
    audits: Mapping[str, Ranges]
    recorded: Mapping[str, list[list[str]]]
    project: Path


@dataclass(frozen=True)
class Lock:
    """What came of it that another process held the database.

    Attributes:
        process: That process.
        tick: A tick while it did.
        later: The tick that requested what it had delivered.
    """

    process: int
    tick: LiveTick
    later: LiveTick


@dataclass(frozen=True)
class History:
    """All ticks and runs, at a moment when no run is in progress."""

    ticks: list[LiveTick]
    runs: dict[str, LiveRun]


@pytest.fixture(scope="module")
def deployment(
    planned_example: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    folder = tmp_path_factory.mktemp("daemon")
    project = _copy(planned_example, folder / "jaffle_shop")
    with Deployment(folder / "home", project, ENABLED="true", INTERVAL_SECONDS=1) as deployment:
        yield deployment


@pytest.fixture(scope="module")
def first_tick(deployment: Deployment) -> LiveTick:
    return deployment.wait_for_tick("a tick", lambda tick: True)


@pytest.fixture(scope="module")
def decided_at(deployment: Deployment, first_tick: LiveTick) -> datetime:
    """The moment for which the first tick decided, which is within the tick."""
    log = deployment.tick_log(first_tick)
    found = re.search(r"^prod at (\S+ \S+) UTC: ", "\n".join(log), re.MULTILINE)
    assert found is not None, log
    at = datetime.fromisoformat(found[1]).replace(tzinfo=UTC)
    assert first_tick.ended is not None
    assert first_tick.started.replace(microsecond=0) <= at <= first_tick.ended
    return at


@pytest.fixture(scope="module")
def by_sqlmesh(
    planned_example: Path, tmp_path_factory: pytest.TempPathFactory, decided_at: datetime
) -> BySqlmesh:
    from sqlmesh.core.console import NoopConsole

    class Listening(NoopConsole):
        def start_evaluation_progress(self, batched: Any, *args: Any, **kwargs: Any) -> None:
            self.batched = batched

    console = Listening()

    def run(context: Any) -> Any:
        context.console = console
        return context.run("prod", execution_time=decided_at, end=decided_at, skip_janitor=True)

    project = _copy(planned_example, tmp_path_factory.mktemp("by_sqlmesh") / "jaffle_shop")
    assert projects.with_context(project, run).is_success
    evaluated = {snapshot: batches for snapshot, batches in console.batched.items() if batches}
    return BySqlmesh(
        models={s.model.name: _joined(each) for s, each in evaluated.items() if s.is_model},
        audits={s.name: _joined(each) for s, each in evaluated.items() if not s.is_model},
        recorded=intervals(project),
        project=project,
    )


@pytest.fixture(scope="module")
def first_run(deployment: Deployment, by_sqlmesh: BySqlmesh, first_tick: LiveTick) -> LiveRun:
    # After SQLMesh's own run, which has gone on beside it.
    return deployment.wait_for_run(first_tick.run_ids[0])


@pytest.fixture(scope="module")
def held_tick(deployment: Deployment, first_run: LiveRun) -> LiveTick:
    """A tick that requests nothing because a signal holds what is due."""
    return deployment.wait_for_tick(
        "a tick that a signal leaves idle",
        lambda tick: tick.skip_reason and tick.skip_reason.endswith(HELD),
    )


@pytest.fixture(scope="module")
def lock(deployment: Deployment, held_tick: LiveTick) -> Lock:
    """The loader has the database open for a while, and delivers what the signal waits for."""
    _quiet(deployment)
    database = deployment.project / "jaffle_shop.duckdb"
    deliver = f"UPDATE raw.loads SET loaded_until = '{datetime.now(UTC) + timedelta(days=2):%F}'"
    with database_open_elsewhere(database, deliver) as process:
        since = datetime.now(UTC)
        locked = deployment.wait_for_tick(
            "a tick while the database is locked", lambda tick: tick.started > since
        )
    later = deployment.wait_for_tick(
        "a tick that requests what the loader has delivered",
        lambda tick: tick.started > since and "sales/daily_revenue" in tick.requested,
    )
    return Lock(process, locked, later)


@pytest.fixture(scope="module")
def last_run(deployment: Deployment, lock: Lock) -> LiveRun:
    return deployment.wait_for_run(lock.later.run_ids[0])


@pytest.fixture(scope="module")
def idle_tick(deployment: Deployment, last_run: LiveRun) -> LiveTick:
    """A tick for which nothing is due, and no cron elapses from its beginning to its end."""
    return deployment.wait_for_tick(
        "a tick for which nothing is due",
        lambda tick: (
            tick.skip_reason
            and tick.skip_reason.startswith("0 of")
            and tick.ended
            and tick.ended.minute == tick.started.minute
        ),
    )


def test_the_first_tick_makes_one_run_of_what_sqlmesh_would_evaluate(
    first_tick: LiveTick, first_run: LiveRun, by_sqlmesh: BySqlmesh
) -> None:
    due = {_asset(model) for model in by_sqlmesh.models}

    assert len(due) == 16
    assert first_tick.status == "SUCCESS"
    assert first_tick.run_ids == (first_run.run_id,)
    assert first_tick.requested == due
    assert first_run.assets == due
    assert first_run.status == "SUCCESS"


def test_the_standalone_audit_that_is_due_is_in_the_run(
    first_run: LiveRun, by_sqlmesh: BySqlmesh
) -> None:
    assert set(by_sqlmesh.audits) == {"assert_every_order_has_payment"}
    assert {
        ("staging/orders", "assert_every_order_has_payment"),
        ("staging/payments", "assert_every_order_has_payment"),
    } <= first_run.checks


def test_the_runs_tags_say_where_it_comes_from(
    first_tick: LiveTick, first_run: LiveRun, by_sqlmesh: BySqlmesh
) -> None:
    expected = {
        "sqlmesh/environment": "prod",
        "sqlmesh/gateway": "duckdb",
        "dagster/sensor_name": "sqlmesh_prod_automation",
        "dagster/tick": first_tick.tick_id,
        "dagster/from_automation_condition": "true",
    }
    assert {key: first_run.tags.get(key) for key in expected} == expected


def test_the_runs_tags_count_its_models(first_run: LiveRun, by_sqlmesh: BySqlmesh) -> None:
    assert first_run.tags["sqlmesh/models"] == str(len(by_sqlmesh.models))


def test_sqlmesh_runs_once_in_the_runs_own_process(
    deployment: Deployment, first_run: LiveRun
) -> None:
    process = deployment.process_of(first_run)
    assert deployment.executing_processes().count(process) == 1


def test_the_ticks_log_names_what_is_due_and_its_intervals(
    deployment: Deployment, first_tick: LiveTick, by_sqlmesh: BySqlmesh, decided_at: datetime
) -> None:
    log = deployment.tick_log(first_tick)
    *lines, summary = (line for line in log if "evaluated outside" not in line)
    evaluated = {**by_sqlmesh.models, **by_sqlmesh.audits}

    assert summary == (
        f"prod at {decided_at:%F %T} UTC: 16 of 18 models due and 1 standalone audit, 17 requested"
    )
    assert sorted(lines) == sorted(
        f"{name} requested ({_spoken(ranges)})" for name, ranges in evaluated.items()
    )
    assert log[-1] == summary, "it is what a person sees of a long log"
    assert any("evaluated outside" in line for line in log)


@pytest.mark.parametrize(
    ("asset", "due"),
    [
        ("staging/orders", "due in SQLMesh (*/5 * * * *)"),
        ("sales/orders", "due in SQLMesh (@hourly)"),
        ("sales/revenue_by_store", "due in SQLMesh (@daily New York)"),
    ],
)
def test_the_ui_shows_the_tree_of_a_requested_model(
    deployment: Deployment, first_run: LiveRun, asset: str, due: str
) -> None:
    evaluation = _evaluation(deployment, asset, first_run)

    assert evaluation.requested == 1
    assert evaluation.root.holds
    assert evaluation.root.label == "due in SQLMesh, nothing holds it"
    assert [(child.label, child.holds) for child in evaluation.root.children] == [
        (due, True),
        ("schedule open (whenever it is due)", True),
        ("not in progress", True),
        ("upstream ready", True),
        ("retry allowed", True),
        ("within limits", True),
    ]


def test_the_ui_shows_why_a_model_is_requested(
    deployment: Deployment, first_run: LiveRun, by_sqlmesh: BySqlmesh
) -> None:
    is_due, *_ = _evaluation(deployment, "sales/orders", first_run).root.children
    (shown,) = is_due.children
    ((start, end),) = by_sqlmesh.models["sales.orders"]
    assert shown.whole == f"due: {_spoken([(start, end)])}"
    assert shown.label.startswith(f"due {start:%F}")


def test_the_ui_shows_why_a_model_is_held(deployment: Deployment, held_tick: LiveTick) -> None:
    held = (
        (row.label, row.whole)
        for evaluation in deployment.evaluations("sales/daily_revenue")
        if not evaluation.requested
        for child in evaluation.root.children
        for row in child.children
    )
    assert ("waits for signal raw_loads_complete", HELD) in set(held)


def test_a_tick_that_a_signal_leaves_idle_says_so(
    deployment: Deployment, held_tick: LiveTick
) -> None:
    assert held_tick.status == "SKIPPED"
    assert held_tick.run_ids == ()
    assert held_tick.skip_reason == f"1 of 18 models due, all held: sales.daily_revenue: {HELD}"
    assert deployment.tick_log(held_tick)[-1].endswith(f" UTC: {held_tick.skip_reason}")


def test_each_requested_asset_is_materialized_by_the_run_that_evaluated_it(
    deployment: Deployment, first_run: LiveRun
) -> None:
    runs = _settled(deployment).runs.values()
    newest = {asset: run.run_id for run in runs for asset in run.assets}

    for asset, made in deployment.materializations(first_run.assets).items():
        (by_first_run,) = (each for each in made if each.run_id == first_run.run_id)
        assert by_first_run.metadata["sqlmesh/outcome"] == "executed", asset
        assert made[0].run_id == newest[asset], asset


def test_sqlmeshs_state_misses_nothing_that_its_own_run_would_have_recorded(
    deployment: Deployment, first_run: LiveRun, by_sqlmesh: BySqlmesh
) -> None:
    file = DuckDBFile(deployment.project / "jaffle_shop.duckdb")
    with database_lease([file], Wait(60), "a test"):
        recorded = intervals(deployment.project)

    for model in by_sqlmesh.models:
        ((start, end),) = recorded[model]
        ((first, last),) = by_sqlmesh.recorded[model]
        assert start == first, model
        assert end >= last, model


def test_a_tick_while_the_database_is_locked_is_skipped_and_says_by_whom(
    deployment: Deployment, lock: Lock
) -> None:
    database = deployment.project / "jaffle_shop.duckdb"
    assert lock.tick.status == "SKIPPED"
    assert lock.tick.error is None
    assert lock.tick.skip_reason is not None
    assert lock.tick.skip_reason.startswith(
        f"The DuckDB database {database} is in use by another process: "
    )
    assert f"(PID {lock.process})" in lock.tick.skip_reason
    assert deployment.tick_log(lock.tick) == [lock.tick.skip_reason]


def test_once_the_lock_is_gone_a_tick_requests_what_the_signal_has_let_go(
    deployment: Deployment, lock: Lock, last_run: LiveRun
) -> None:
    assert lock.later.status == "SUCCESS"
    assert lock.later.run_ids == (last_run.run_id,)
    assert lock.later.requested >= FED_BY_THE_LOADER
    assert last_run.assets == lock.later.requested
    assert last_run.status == "SUCCESS"


def test_an_idle_tick_says_what_comes_next(
    deployment: Deployment, idle_tick: LiveTick, by_sqlmesh: BySqlmesh
) -> None:
    assert idle_tick.status == "SKIPPED"
    assert idle_tick.run_ids == ()
    name, at = _next_cron(by_sqlmesh.project, idle_tick.started)
    assert idle_tick.skip_reason == f"0 of 18 models due; next: {name} at {at:%F %H:%M} UTC"
    # Dagster's page of ticks has no skip message for such a sensor; the log is what people see.
    *_, last = deployment.tick_log(idle_tick)
    assert re.fullmatch(rf"prod at [-\d: ]+ UTC: {re.escape(idle_tick.skip_reason)}", last)


def test_every_tick_makes_at_most_one_run_and_every_run_one_execution(
    deployment: Deployment, last_run: LiveRun
) -> None:
    history = _settled(deployment)

    assert [tick for tick in history.ticks if len(tick.run_ids) > 1] == []
    assert {tick.status for tick in history.ticks if tick.run_ids} == {"SUCCESS"}
    assert {tick.status for tick in history.ticks if not tick.run_ids} == {"SKIPPED"}
    assert {run.status for run in history.runs.values()} == {"SUCCESS"}
    assert {tick.run_ids[0]: tick.tick_id for tick in history.ticks if tick.run_ids} == {
        run_id: run.tags["dagster/tick"] for run_id, run in history.runs.items()
    }
    assert Counter(deployment.executing_processes()) == {
        deployment.process_of(run): 1 for run in history.runs.values()
    }


def test_nothing_goes_wrong_on_the_way(deployment: Deployment, idle_tick: LiveTick) -> None:
    assert deployment.unhealthy_daemons() == {}
    assert [tick.error for tick in deployment.ticks() if tick.error] == []
    # That "dagster dev" is superseded by "dg dev" says Dagster, whatever it is started on.
    alarming = re.compile(r"Traceback|Warning\b|\b(WARNING|ERROR|CRITICAL)\b|Exception\b")
    assert [
        line
        for line in deployment.output.splitlines()
        if alarming.search(line) and "SupersessionWarning" not in line
    ] == []


def _settled(deployment: Deployment) -> History:
    def settled() -> History | None:
        runs = {run.run_id: run for run in deployment.runs()}
        ticks = deployment.ticks()
        listed = {run_id for tick in ticks for run_id in tick.run_ids}
        over = listed == set(runs) and all(run.ended for run in runs.values())
        return History(ticks, runs) if over else None

    return deployment.wait_for("a moment without a run in progress", settled)


def _quiet(deployment: Deployment) -> None:
    """Returns when nothing runs, and no cron of five minutes elapses in the next half minute.

    A run that waits for a locked database would hold the ticks' lease on it.
    """
    period = 5 * 60
    deployment.wait_for(
        "half a minute without a cron",
        lambda: datetime.now(UTC).timestamp() % period < period - 30 and _settled(deployment),
    )


def _evaluation(deployment: Deployment, asset: str, run: LiveRun) -> Evaluation:
    (found,) = (each for each in deployment.evaluations(asset) if each.run_ids == (run.run_id,))
    return found


def _next_cron(project: Path, after: datetime) -> tuple[str, datetime]:
    """Which node's cron elapses next, by SQLMesh; the first by name where there are several."""

    def find(context: Any) -> tuple[str, datetime]:
        evaluated = (
            m for m in context.models.values() if not m.kind.is_external and not m.kind.is_embedded
        )
        nodes = (*evaluated, *context.standalone_audits.values())
        at, name = min((node.cron_next(after), node.name) for node in nodes)
        return name, at

    found: tuple[str, datetime] = projects.with_context(project, find)
    return found


def _copy(project: Path, folder: Path) -> Path:
    return Path(shutil.copytree(project, folder, ignore=shutil.ignore_patterns("*.lock")))


def _asset(model: str) -> str:
    return model.replace(".", "/")


def _joined(batches: list[tuple[int, int]]) -> Ranges:
    joined: Ranges = []
    for batch in sorted(batches):
        start, end = (datetime.fromtimestamp(ms / 1000, tz=UTC) for ms in batch)
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def _spoken(ranges: Ranges) -> str:
    return ", ".join(f"{start:%F %H:%M} to {end:%F %H:%M} UTC" for start, end in ranges)
