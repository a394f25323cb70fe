"""The truth table of outcomes, continued: models that SQLMesh did not evaluate, and why not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest
from support.executors import Launch, dagster_home, executions
from support.outcome_helpers import (
    FIVE_PAST,
    HOUR,
    NEXT_DAY,
    NOT_STARTED,
    RAW_DAYS,
    Count,
    Recorded,
    T,
    audit_step,
    data_version,
    day,
    failure,
    held_project,
    intervals,
    recorded,
    runless,
    said,
    small_project,
    sql,
)
from support.tables import evaluated
from support.ticks import Automation, Run

# Nothing due


def test_a_model_with_nothing_due_succeeds_without_a_materialization_and_says_what_is_next(
    automation: Automation, executions: Count
) -> None:
    run = automation.run(["sales/orders"], FIVE_PAST)

    assert run.success
    assert recorded(run, "sales/orders") == Recorded("success")
    assert said(run, "sales__orders") == [
        "sales.orders up to date: next interval ready at 2026-10-14 01:00 UTC"
    ]
    assert runless(automation.instance, "sales/orders") == []
    assert executions() == 1


def test_a_model_with_nothing_due_is_marked_where_a_selected_descendant_is_executed(
    automation: Automation, executions: Count
) -> None:
    both = ["staging/products", "staging/order_items"]
    known = automation.run(both, NEXT_DAY).materialized()["staging/products"]

    for later in (1, 2):
        run = automation.run(both, NEXT_DAY.replace(hour=later))

        assert run.success
        assert recorded(run, "staging/products") == Recorded("success", 1)
        assert recorded(run, "staging/order_items").materializations == 1
        marked = run.materialized()["staging/products"]
        assert marked.metadata["sqlmesh/outcome"].value == "up_to_date"
        assert evaluated(marked.metadata) == []
        assert data_version(marked) == data_version(known)
        assert said(run, "staging__products") == [
            "staging.products up to date: next interval ready at 2026-10-16 00:00 UTC"
        ]
    assert executions() == 3


def test_a_marked_model_with_audits_has_no_check_evaluations_and_no_lines_about_them(
    automation: Automation, executions: Count, caplog: pytest.LogCaptureFixture
) -> None:
    daily = ["staging/customers", "core/customer_history"]
    automation.run(daily[:1], NEXT_DAY)

    run = automation.run(daily, NEXT_DAY)

    assert run.success
    assert recorded(run, "staging/customers") == Recorded("success", 1)
    marked = run.materialized()["staging/customers"]
    assert marked.metadata["sqlmesh/outcome"].value == "up_to_date"
    assert recorded(run, "core/customer_history").materializations == 1
    assert not {key for key, _ in run.checks()} & {"staging/customers"}
    assert executions() == 2
    # Dagster would say of each check without a result that its output is missing, and of each
    # blocking one that what reads the model goes on without it.
    lines = "\n".join([*run.log(), *caplog.messages])
    assert "did not yield" not in lines
    assert "emitted no result" not in lines


def test_a_standalone_audit_with_nothing_due_succeeds_without_a_check_evaluation(
    automation: Automation, executions: Count
) -> None:
    run = automation.run(["staging/orders", "staging/payments"], HOUR)

    assert run.success
    assert audit_step(automation) in run.steps(T.STEP_SUCCESS)
    assert "assert_every_order_has_payment" not in {name for _, name in run.checks()}
    assert executions() == 1


# A signal holds it


def test_a_model_that_a_signal_holds_succeeds_and_its_log_names_the_signal(
    automation: Automation, executions: Count
) -> None:
    sql(automation.project, "UPDATE raw.loads SET loaded_until = '2026-10-13'")

    run = automation.run(["sales/daily_revenue"], NEXT_DAY)

    assert run.success
    assert recorded(run, "sales/daily_revenue") == Recorded("success")
    assert said(run, "sales__daily_revenue") == [
        "sales.daily_revenue not ready: signal raw_loads_complete holds it"
    ]
    assert executions() == 1


SIGNAL = """\
from sqlmesh import signal
from sqlmesh.utils.date import to_datetime


@signal()
def loaded(batch, context):
    row = context.engine_adapter.fetchone("SELECT until FROM raw.loaded")
    return [(start, end) for start, end in batch if end <= to_datetime(row[0])]
"""
INCREMENTAL = """\
MODEL (
  name tiny.{name}, kind INCREMENTAL_BY_TIME_RANGE (time_column day), cron '@daily' {more}
);
SELECT day FROM {reads} WHERE day BETWEEN @start_ds AND @end_ds
"""


def test_what_sqlmesh_executes_below_a_held_model_is_reported_as_executed(
    tmp_path: Path, instance: dg.DagsterInstance, executions: Count
) -> None:
    files = {
        "signals/__init__.py": SIGNAL,
        "models/held.sql": INCREMENTAL.format(
            name="held", reads="raw.days", more=", signals (loaded())"
        ),
        "models/reader.sql": INCREMENTAL.format(name="reader", reads="tiny.held", more=""),
    }
    raw = [RAW_DAYS, "CREATE TABLE raw.loaded AS SELECT TIMESTAMP '2026-10-15' AS until"]
    automation = Automation.of(small_project(tmp_path / "small", files, raw), instance)
    automation.run(["tiny/held"], NEXT_DAY)

    # The reader misses the 14th and the 15th, and only the 15th is held.
    run = automation.run(["tiny/held", "tiny/reader"], datetime(2026, 10, 16, tzinfo=UTC))

    assert run.success
    assert recorded(run, "tiny/held") == Recorded("success")
    assert said(run, "tiny__held") == ["tiny.held not ready: signal loaded holds it"]
    assert recorded(run, "tiny/reader") == Recorded("success", 1)
    made = run.materialized()["tiny/reader"].metadata
    assert made["sqlmesh/outcome"].value == "executed"
    assert evaluated(made) == [[day(14), day(15)]]
    assert executions() == 2


# Not in the environment


def test_a_model_that_no_plan_has_applied_fails_and_asks_for_a_plan(
    example: Path, instance: dg.DagsterInstance, executions: Count
) -> None:
    (example / "models/sales/unplanned.sql").write_text(
        "MODEL (name sales.unplanned, kind FULL); SELECT order_id FROM sales.orders"
    )
    automation = Automation.of(example, instance)

    run = automation.run(["sales/unplanned", "staging/web_events"], HOUR)

    assert not run.success
    assert recorded(run, "sales/unplanned") == Recorded("failure")
    description, metadata = failure(run, "sales/unplanned")
    assert description == (
        "sales.unplanned failed in SQLMesh: it is not in environment 'prod': "
        "apply it with a SQLMesh plan"
    )
    assert metadata["sqlmesh/outcome"] == "failed"
    assert recorded(run, "staging/web_events") == Recorded("success", 1)
    assert executions() == 1


# Cancelled


@dataclass
class Terminated:
    """A run that was terminated while ``slow.held`` was being evaluated.

    Attributes:
        run: As the event log has it in the end.
        status: The run's.
        evaluated: The models that have new intervals in SQLMesh's state.
        executions: How many SQLMesh executions there were.
        leftover: Whether a process is still there.
    """

    run: Run
    status: dg.DagsterRunStatus
    evaluated: set[str]
    executions: int
    leftover: bool


@pytest.fixture(scope="module")
def terminated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminated]:
    folder = tmp_path_factory.mktemp("terminated")
    gate = folder / "gate"
    project = held_project(folder / "small", gate)
    before = intervals(project)
    home = dagster_home(folder / "home")
    with Launch(project, home, "in_process") as launch:
        launch.wait_for((gate / "reached").exists)
        launch.wait_for(lambda: "slow.quick" in launch.run.by_name())
        launch.wait_for(lambda: recorded(launch.run, "slow/held").step == "started")
        launch.terminate()
        launch.wait_for(lambda: recorded(launch.run, "slow/held").step == "failure")
        # SQLMesh has no way to stop what it is evaluating: that comes to its end.
        (gate / "open").touch()
        leftover = launch.leftover_processes
        yield Terminated(
            launch.run,
            launch.status,
            {name for name, found in intervals(project).items() if found != before[name]},
            executions(home),
            leftover,
        )


def test_a_terminated_run_is_cancelled_and_leaves_no_process_behind(
    terminated: Terminated,
) -> None:
    assert terminated.status is dg.DagsterRunStatus.CANCELED
    assert not terminated.leftover
    assert terminated.executions == 1


def test_what_a_step_reported_before_the_termination_stays_reported(terminated: Terminated) -> None:
    assert recorded(terminated.run, "slow/first") == Recorded("success", 1)


def test_what_was_evaluated_and_had_no_step_yet_is_reported_without_one(
    terminated: Terminated,
) -> None:
    assert recorded(terminated.run, "slow/quick") == NOT_STARTED
    (made,) = runless(terminated.run.instance, "slow/quick")
    assert made.metadata["sqlmesh/run_id"].value == terminated.run.run_id
    assert made.metadata["sqlmesh/outcome"].value == "executed"


def test_what_was_being_evaluated_when_its_step_was_interrupted_is_reported_without_one(
    terminated: Terminated,
) -> None:
    assert recorded(terminated.run, "slow/held") == Recorded("failure")
    assert "slow.held" in terminated.evaluated
    (made,) = runless(terminated.run.instance, "slow/held")
    assert made.metadata["sqlmesh/run_id"].value == terminated.run.run_id


def test_what_was_not_started_is_cancelled_and_not_evaluated(terminated: Terminated) -> None:
    assert terminated.evaluated == {"slow.first", "slow.held", "slow.quick"}
    for name in ("after", "last"):
        assert recorded(terminated.run, f"slow/{name}") == NOT_STARTED
        assert runless(terminated.run.instance, f"slow/{name}") == []
    outcomes = terminated.run.by_name().values()
    # No upstream of last has failed: it is not one that was skipped.
    assert {o.name: o.status for o in outcomes if not o.succeeded} == {
        "slow.after": "cancelled",
        "slow.last": "cancelled",
    }
