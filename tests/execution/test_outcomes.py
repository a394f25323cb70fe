"""The truth table of outcomes: what the event log holds of models that SQLMesh evaluated.

The rows of models that it did not evaluate are in test_outcomes_unevaluated.py.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import dagster as dg
import pytest
from support import projects
from support.outcome_helpers import (
    FIVE_PAST,
    HOUR,
    NEXT_DAY,
    NEXT_HOUR,
    NOT_STARTED,
    RAW_DAYS,
    Count,
    Recorded,
    T,
    audit_step,
    check,
    data_version,
    day,
    failure,
    intervals,
    recorded,
    runless,
    small_project,
    sql,
)
from support.tables import evaluated, ranges, rows
from support.ticks import Automation

DAY = date(2026, 10, 14)
THREE_DAYS_ON = datetime(2026, 10, 17, tzinfo=UTC)

NOT_NEGATIVE = "assert_order_total_not_negative"
UNPAID = "assert_no_unpaid_orders"
PAYMENTS = "assert_every_order_has_payment"


# Executed


def test_models_that_were_executed_are_materialized_once_with_their_metadata_and_checks(
    automation: Automation, executions: Count
) -> None:
    tick, run = automation.tick_and_run(NEXT_DAY)

    assert run is not None
    assert run.success
    assert set(run.materialized()) == tick.requested
    evaluated = set()
    for model in automation.location.manifest.executed:
        asset = f"{model.schema}/{model.table}"
        if asset not in tick.requested:
            assert recorded(run, asset) == NOT_STARTED
            continue
        audits = {audit.audit: "passed" for audit in model.audits}
        if asset in {"staging/orders", "staging/payments"}:
            audits[PAYMENTS] = "passed"
            evaluated.add((asset, PAYMENTS))
        evaluated |= {(asset, audit.check) for audit in model.audits}
        assert recorded(run, asset) == Recorded("success", 1, audits)
    assert set(run.checks()) == evaluated

    made = run.materialized()["sales/orders"]
    metadata = {key: value.value for key, value in made.metadata.items()}
    assert isinstance(metadata.pop("sqlmesh/duration_ms"), int)
    assert metadata.pop("sqlmesh/snapshot")
    plan = metadata.pop("sqlmesh/plan")
    assert metadata.pop("sqlmesh/table").startswith("jaffle_shop.sqlmesh__sales.sales__orders__")
    assert isinstance(metadata.pop("sqlmesh/evaluated_at"), float)
    assert "order_total" in metadata.pop("dagster/column_lineage").deps_by_column
    assert ranges(metadata.pop("sqlmesh/intervals")) == [[day(14), day(15)]]
    assert rows(metadata.pop("sqlmesh/recorded")) == [
        {"from": "2026-10-15 00:00 UTC", "to": "", "state": "next, due 2026-10-15 01:00 UTC"}
        | {"run": "", "plan": ""},
        {"from": "2026-10-14 00:00 UTC", "to": "2026-10-15 00:00 UTC", "state": "evaluated now"}
        | {"run": run.run_id[:8], "plan": plan[:8]},
        {"from": "2026-10-01 00:00 UTC", "to": "2026-10-14 00:00 UTC", "state": "recorded"}
        | {"run": "", "plan": ""},
    ]
    # DuckDB tells neither rows nor bytes.
    assert metadata == {
        "sqlmesh/outcome": "executed",
        "sqlmesh/model": "sales.orders",
        "sqlmesh/batches": 1,
        "sqlmesh/interval_count": 24,
        "sqlmesh/audits": 2,
        "sqlmesh/audits_failed": 0,
    }
    passed = check(run, "sales/orders", NOT_NEGATIVE).metadata
    assert passed["sqlmesh/failing_rows"].value == 0
    assert "sqlmesh/query" not in passed
    assert executions() == 1


def test_a_data_version_is_new_with_each_evaluation(
    automation: Automation, executions: Count
) -> None:
    first = automation.run(["staging/web_events"], FIVE_PAST).materialized()
    second = automation.run(["staging/web_events"], HOUR).materialized()

    versions = {data_version(made["staging/web_events"]) for made in (first, second)}
    assert len(versions) == 2
    assert "" not in versions
    assert executions() == 2


# A non-blocking audit failed


def test_an_audit_that_does_not_block_warns_and_the_model_is_materialized(
    automation: Automation, executions: Count
) -> None:
    projects.example_data().lose_payments(automation.project / "jaffle_shop.duckdb", DAY)

    _, run = automation.tick_and_run(NEXT_DAY)

    assert run is not None
    assert run.success
    assert recorded(run, "finance/reconciliation") == Recorded(
        "success",
        1,
        {
            UNPAID: "WARN",
            "assert_fees_not_above_payments": "passed",
            "unique_values": "passed",
        },
    )
    found = check(run, "finance/reconciliation", UNPAID).metadata
    assert found["sqlmesh/failing_rows"].value == 1
    assert "unpaid_order_count" in found["sqlmesh/query"].value
    made = run.materialized()["finance/reconciliation"].metadata
    assert made["sqlmesh/outcome"].value == "executed"
    assert executions() == 1


# A blocking audit failed


def test_a_blocking_audit_fails_its_step_and_nothing_downstream_starts(
    automation: Automation, executions: Count
) -> None:
    projects.example_data().break_order_totals(automation.project / "jaffle_shop.duckdb", DAY)
    ((broken,),) = sql(
        automation.project,
        "SELECT COUNT(*) FROM raw.orders WHERE ordered_at::DATE = '2026-10-14'"
        " AND HOUR(ordered_at) = 0",
    )

    tick, run = automation.tick_and_run(HOUR)

    assert run is not None
    assert not run.success
    assert recorded(run, "sales/orders") == Recorded(
        "failure", 0, {NOT_NEGATIVE: "ERROR", "unique_values": "passed"}
    )
    found = check(run, "sales/orders", NOT_NEGATIVE).metadata
    assert found["sqlmesh/failing_rows"].value == broken
    assert '"order_total" < 0' in found["sqlmesh/query"].value
    description, metadata = failure(run, "sales/orders")
    assert description == f"sales.orders: blocking audit failed: {NOT_NEGATIVE} ({broken} rows)"
    assert metadata["sqlmesh/outcome"] == "audit_failed"

    assert "core/customer_profile" in tick.requested
    assert recorded(run, "core/customer_profile") == NOT_STARTED
    assert set(run.materialized()) == tick.requested - {"sales/orders", "core/customer_profile"}
    assert runless(automation.instance, "sales/orders") == []
    assert executions() == 1


# A batch raised


def test_a_python_model_that_raises_fails_its_step_with_its_message(
    automation: Automation, executions: Count, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAFFLE_SHOP_FAIL", "1")

    run = automation.run(["marketing/customer_segments", "marketing/campaign_audience"], NEXT_DAY)

    assert not run.success
    assert recorded(run, "marketing/customer_segments") == Recorded("failure")
    description, metadata = failure(run, "marketing/customer_segments")
    assert description.startswith("marketing.customer_segments failed in SQLMesh: ")
    assert "RuntimeError: marketing.customer_segments fails because" in description
    assert "RuntimeError: marketing.customer_segments fails because" in metadata["sqlmesh/error"]
    assert metadata["sqlmesh/outcome"] == "failed"
    assert metadata["sqlmesh/batches"] == 0
    assert "sqlmesh/sql" not in metadata
    assert recorded(run, "marketing/campaign_audience") == NOT_STARTED
    assert executions() == 1


def test_an_sql_model_that_raises_fails_its_step_with_the_sql(
    automation: Automation, executions: Count
) -> None:
    sql(automation.project, "ALTER TABLE raw.web_events RENAME COLUMN page_path TO page")

    run = automation.run(["staging/web_events", "marketing/sessions", "staging/order_items"], HOUR)

    assert not run.success
    assert recorded(run, "staging/web_events") == Recorded("failure")
    description, metadata = failure(run, "staging/web_events")
    assert 'does not have a column named "page_path"' in description
    assert metadata["sqlmesh/sql"].startswith("```sql\nSELECT")
    assert '"page_path"' in metadata["sqlmesh/sql"]
    assert "2026-10-14 00:59:59.999999" in metadata["sqlmesh/sql"]
    assert recorded(run, "marketing/sessions") == NOT_STARTED
    assert recorded(run, "staging/order_items").step == "success"
    assert executions() == 1


DAYS_MODEL = """\
MODEL (
  name tiny.days,
  kind INCREMENTAL_BY_TIME_RANGE (time_column day, batch_size 1),
  cron '@daily',
  audits (
    not_null(columns := day),
    accepted_values(column := value, is_in := (1), blocking := FALSE)
  )
);
SELECT day, CASE state WHEN 'broken' THEN ERROR('boom')::INT WHEN 'odd' THEN 2 ELSE 1 END AS value
FROM raw.days WHERE day BETWEEN @start_ds AND @end_ds
"""


@pytest.fixture
def batches(tmp_path: Path, instance: dg.DagsterInstance) -> Automation:
    """A model that SQLMesh evaluates one day at a time."""
    project = small_project(tmp_path / "small", {"models/days.sql": DAYS_MODEL}, [RAW_DAYS])
    return Automation.of(project, instance)


def test_one_batch_of_several_that_raises_fails_the_step_which_names_the_finished_ones(
    batches: Automation, executions: Count
) -> None:
    sql(batches.project, "UPDATE raw.days SET state = 'broken' WHERE day = '2026-10-15'")

    run = batches.run(["tiny/days"], THREE_DAYS_ON)

    assert recorded(run, "tiny/days").step == "failure"
    assert recorded(run, "tiny/days").materializations == 0
    description, metadata = failure(run, "tiny/days")
    assert "boom" in description
    assert metadata["sqlmesh/batches"] == 2
    assert evaluated(metadata) == [[day(14), day(15)], [day(16), day(17)]]
    assert "'2026-10-15'" in metadata["sqlmesh/sql"]
    assert intervals(batches.project)["tiny.days"] == [[day(1), day(15)], [day(16), day(17)]]
    assert executions() == 1


def test_a_model_of_which_one_batch_raised_has_no_check_evaluations(
    batches: Automation, executions: Count
) -> None:
    sql(batches.project, "UPDATE raw.days SET state = 'broken' WHERE day = '2026-10-15'")

    run = batches.run(["tiny/days"], THREE_DAYS_ON)

    assert recorded(run, "tiny/days") == Recorded("failure")
    assert executions() == 1


def test_the_run_after_a_failed_batch_evaluates_that_batch_alone(
    batches: Automation, executions: Count
) -> None:
    sql(batches.project, "UPDATE raw.days SET state = 'broken' WHERE day = '2026-10-15'")
    batches.run(["tiny/days"], THREE_DAYS_ON)
    sql(batches.project, "UPDATE raw.days SET state = ''")

    run = batches.run(["tiny/days"], THREE_DAYS_ON)

    made = run.materialized()["tiny/days"].metadata
    assert evaluated(made) == [[day(15), day(16)]]
    assert made["sqlmesh/batches"].value == 1
    assert executions() == 2


def test_a_check_counts_the_failing_rows_of_all_batches(
    batches: Automation, executions: Count
) -> None:
    sql(
        batches.project,
        "UPDATE raw.days SET state = 'odd' WHERE day IN ('2026-10-14', '2026-10-16')",
    )

    run = batches.run(["tiny/days"], THREE_DAYS_ON)

    assert recorded(run, "tiny/days") == Recorded(
        "success", 1, {"not_null": "passed", "accepted_values": "WARN"}
    )
    found = check(run, "tiny/days", "accepted_values").metadata
    assert found["sqlmesh/failing_rows"].value == 2
    assert "2026-10-14" in found["sqlmesh/query"].value
    assert run.materialized()["tiny/days"].metadata["sqlmesh/batches"].value == 3
    assert executions() == 1


# An upstream failed


def test_behind_an_embedded_model_a_step_that_starts_fails_and_names_what_failed_upstream(
    automation: Automation, executions: Count
) -> None:
    sql(automation.project, "ALTER TABLE raw.order_items RENAME COLUMN quantity TO pieces")

    run = automation.run(["staging/order_items", "sales/orders", "core/customer_profile"], HOUR)

    assert recorded(run, "staging/order_items") == Recorded("failure")
    # core.order_totals, which is embedded, stands between: Dagster sees no failed parent.
    assert recorded(run, "sales/orders") == Recorded("failure")
    description, metadata = failure(run, "sales/orders")
    assert description == "sales.orders was skipped by SQLMesh: upstream staging.order_items failed"
    assert metadata["sqlmesh/outcome"] == "skipped"
    assert metadata["sqlmesh/batches"] == 0
    assert recorded(run, "core/customer_profile") == NOT_STARTED
    assert run.materialized() == {}
    assert executions() == 1


def test_an_upstream_that_nobody_selected_and_that_fails_is_named_by_the_selected_model(
    automation: Automation, executions: Count
) -> None:
    sql(automation.project, "ALTER TABLE raw.web_events RENAME COLUMN page_path TO page")

    run = automation.run(["marketing/sessions"], HOUR)

    assert recorded(run, "marketing/sessions") == Recorded("failure")
    description, _ = failure(run, "marketing/sessions")
    assert description == (
        "marketing.sessions was skipped by SQLMesh: upstream staging.web_events failed"
    )
    assert recorded(run, "staging/web_events") == NOT_STARTED
    assert runless(automation.instance, "staging/web_events") == []
    assert executions() == 1


# An upstream that nobody selected


def test_an_upstream_that_nobody_selected_is_reported_without_a_step(
    automation: Automation, executions: Count
) -> None:
    run = automation.run(["sales/orders"], HOUR)

    assert run.success
    assert set(run.materialized()) == {"sales/orders"}
    assert run.steps(T.STEP_START) == {"sales__orders"}
    for asset in ("staging/orders", "staging/order_items"):
        assert recorded(run, asset) == NOT_STARTED
        (made,) = runless(automation.instance, asset)
        metadata = {key: value.value for key, value in made.metadata.items()}
        assert metadata["sqlmesh/run_id"] == run.run_id
        assert metadata["sqlmesh/outcome"] == "executed"
        assert metadata["sqlmesh/model"] == asset.replace("/", ".")
        assert evaluated(metadata) == [[day(14), HOUR.isoformat()]]
        assert data_version(made)
    # Their siblings were due as well, and nothing that was selected reads them.
    assert runless(automation.instance, "staging/web_events") == []
    assert executions() == 1


def test_a_materialization_names_the_version_of_the_upstream_that_its_run_evaluated(
    automation: Automation, executions: Count
) -> None:
    automation.run(["staging/orders", "sales/orders"], HOUR)

    run = automation.run(["sales/orders"], NEXT_HOUR)

    (upstream,) = runless(automation.instance, "staging/orders")
    tags = run.materialized()["sales/orders"].tags or {}
    # With an older one Dagster shows sales.orders as out of step with staging.orders at once.
    assert tags["dagster/input_data_version/staging/orders"] == data_version(upstream)
    assert executions() == 2


# Standalone audits


@pytest.mark.parametrize(("lost", "result"), [(False, "passed"), (True, "WARN")])
def test_a_standalone_audit_is_a_check_on_each_model_that_it_reads(
    automation: Automation, executions: Count, lost: bool, result: str
) -> None:
    if lost:
        projects.example_data().lose_payments(automation.project / "jaffle_shop.duckdb", DAY)

    run = automation.run(["staging/orders", "staging/payments"], NEXT_DAY)

    assert run.success
    assert audit_step(automation) in run.steps(T.STEP_SUCCESS)
    for asset in ("staging/orders", "staging/payments"):
        assert recorded(run, asset).step == "success"
        assert recorded(run, asset).materializations == 1
        assert recorded(run, asset).checks[PAYMENTS] == result
        found = check(run, asset, PAYMENTS)
        assert found.severity is dg.AssetCheckSeverity.WARN
        assert (found.metadata["sqlmesh/failing_rows"].value > 0) == lost
        assert ("sqlmesh/query" in found.metadata) == lost
    assert executions() == 1


def test_one_of_the_models_that_a_standalone_audit_reads_runs_alone(
    automation: Automation, executions: Count
) -> None:
    run = automation.run(["staging/orders"], HOUR)

    assert run.success
    assert set(run.materialized()) == {"staging/orders"}
    assert executions() == 1
