"""Assets and sensors of users beside models, as docs/own-assets.md says."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
from support.ticks import Automation

FIRST = datetime(2026, 10, 14, 1, tzinfo=UTC)
ORDERS = dg.AssetKey(["sales", "orders"])


def daily(condition: dg.AutomationCondition) -> dg.AssetsDefinition:
    """A partitioned asset below a model."""

    @dg.asset(
        deps=[ORDERS],
        partitions_def=dg.DailyPartitionsDefinition("2026-10-01"),
        automation_condition=condition,
    )
    def exported_orders() -> None: ...

    return exported_orders


def test_a_partitioned_asset_below_a_model_is_requested_once_the_model_was_evaluated(
    example: Path,
) -> None:
    instance = dg.DagsterInstance.ephemeral()
    automation = Automation.of(example, instance)
    exported = daily(dg.AutomationCondition.eager())
    merged = dg.Definitions.merge(
        dg.Definitions(assets=[exported]), automation.location.definitions
    )
    dg.Definitions.validate_loadable(merged)

    def requested(cursor: object) -> dg.EvaluateAutomationConditionsResult:
        return dg.evaluate_automation_conditions(
            merged,
            instance,
            asset_selection=dg.AssetSelection.assets(exported.key),
            evaluation_time=FIRST,
            cursor=cursor,  # type: ignore[arg-type]
        )

    before = requested(None)
    assert before.total_requested == 0
    _, run = automation.tick_and_run(FIRST)
    assert run is not None
    assert "sales/orders" in run.materialized()
    after = requested(before.cursor)
    assert after.get_requested_partitions(exported.key) == {"2026-10-13"}
    assert requested(after.cursor).total_requested == 0


def test_a_sensor_over_everything_else_leaves_the_models_out(example: Path) -> None:
    automation = Automation.of(example, dg.DagsterInstance.ephemeral())
    exported = daily(dg.AutomationCondition.eager())
    models = dg.AssetSelection.tag("sqlmesh/automation", "sqlmesh_prod")
    sensor = dg.AutomationConditionSensorDefinition(
        "everything_else", target=dg.AssetSelection.all() - models
    )
    merged = dg.Definitions.merge(
        dg.Definitions(assets=[exported], sensors=[sensor]), automation.location.definitions
    )
    dg.Definitions.validate_loadable(merged)
    graph = merged.resolve_asset_graph()
    assert sensor.asset_selection.resolve(graph) == {exported.key}
    ours = automation.location.sensor.asset_selection.resolve(graph)
    assert {*automation.location.index.evaluated.values()} <= ours
    assert exported.key not in ours
