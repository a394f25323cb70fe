"""What the definitions hold: one for each model, and what it looks like."""

from __future__ import annotations

import dagster as dg
import pytest
from support.ticks import Automation

from dagster_sqlmesh_automation import (
    AutomationSettings,
    ManifestModel,
    SQLMeshTranslator,
    build_definitions,
    sqlmesh_executor,
)


@pytest.fixture
def graph(automation: Automation) -> dg.AssetGraph:
    return automation.location.definitions.resolve_asset_graph()


def key(name: str) -> dg.AssetKey:
    return dg.AssetKey(name.split("/"))


def test_every_model_is_a_definition_of_its_own(automation: Automation) -> None:
    definitions = [
        asset
        for asset in automation.location.definitions.assets or ()
        if isinstance(asset, dg.AssetsDefinition) and asset.is_executable and asset.keys
    ]
    assert len(definitions) == 18
    assert all(len(list(asset.keys)) == 1 for asset in definitions)
    assert len({asset.op.name for asset in definitions}) == 18


def test_external_models_are_assets_that_cannot_be_materialized(graph: dg.AssetGraph) -> None:
    externals = {k.to_user_string() for k in graph.external_asset_keys}
    assert {"raw/orders", "raw/loads", "core/order_totals"} <= externals
    assert not graph.get(key("raw/orders")).is_materializable
    assert key("raw/orders") in graph.get(key("staging/orders")).parent_keys
    assert len(externals) == len(graph.external_asset_keys)


def test_an_embedded_model_keeps_the_lineage_whole(graph: dg.AssetGraph) -> None:
    embedded = graph.get(key("core/order_totals"))
    assert not embedded.is_materializable
    assert key("sales/orders") in embedded.child_keys
    assert {key("staging/order_items")} <= embedded.parent_keys


def test_dependencies_are_those_of_sqlmesh(automation: Automation, graph: dg.AssetGraph) -> None:
    keys = automation.location.index.keys
    for model in automation.location.manifest.models:
        expected = {keys[fqn] for fqn in model.depends_on}
        assert graph.get(keys[model.fqn]).parent_keys == expected


def test_an_audit_used_twice_is_two_checks_with_its_blocking(graph: dg.AssetGraph) -> None:
    names = {
        check.name: graph.get(check).blocking
        for check in graph.asset_check_keys
        if check.asset_key in {key("staging/payments"), key("finance/reconciliation")}
    }
    twice = [name for name in names if name.startswith("accepted_values__")]
    assert len(twice) == 2
    assert names["assert_no_unpaid_orders"] is False
    assert names["assert_fees_not_above_payments"] is True


def test_a_standalone_audit_is_a_check_on_each_model_it_reads(graph: dg.AssetGraph) -> None:
    checked = {
        check.asset_key.to_user_string()
        for check in graph.asset_check_keys
        if check.name == "assert_every_order_has_payment"
    }
    assert checked == {"staging/orders", "staging/payments"}


def test_an_asset_shows_what_sqlmesh_knows_of_the_model(graph: dg.AssetGraph) -> None:
    node = graph.get(key("sales/revenue_by_store"))
    assert node.group_name == "sales"
    assert node.metadata["sqlmesh/kind"] == "FULL"
    assert node.metadata["sqlmesh/cron"] == "@daily America/New_York"
    assert node.kinds == {"sqlmesh"}
    assert node.tags["sqlmesh/environment"] == "prod"
    assert node.code_version
    assert node.description
    assert graph.get(key("marketing/customer_segments")).kinds == {"sqlmesh", "python"}
    assert graph.get(key("finance/reconciliation")).owners == ["finance@jaffle-shop.example"]
    assert graph.get(key("staging/orders")).owners == ["team:analytics_engineering"]


def test_each_method_of_the_translator_can_be_overridden(automation: Automation) -> None:
    class Translator(SQLMeshTranslator):
        def get_asset_key(self, model: ManifestModel) -> dg.AssetKey:
            return super().get_asset_key(model).with_prefix("ours")

        def get_group_name(self, model: ManifestModel) -> str:
            return "everything"

        def get_owners(self, model: ManifestModel) -> list[str]:
            return ["team:data"]

        def get_automation_condition(
            self, model: ManifestModel, default: dg.AutomationCondition
        ) -> dg.AutomationCondition | None:
            return None if model.schema == "marketing" else default

    definitions = build_definitions(
        AutomationSettings(project=automation.project), translator=Translator()
    )
    graph = definitions.resolve_asset_graph()
    orders = graph.get(key("ours/sales/orders"))
    assert (orders.group_name, orders.owners) == ("everything", ["team:data"])
    assert key("ours/core/order_totals") in orders.parent_keys
    assert orders.automation_condition is not None
    assert graph.get(key("ours/marketing/sessions")).automation_condition is None


def test_definitions_merge_with_others_and_connect_to_them(automation: Automation) -> None:
    @dg.asset(key=["raw", "orders"])
    def load_orders() -> None: ...

    @dg.asset(deps=[dg.AssetKey(["sales", "orders"])])
    def dashboard() -> None: ...

    class Translator(SQLMeshTranslator):
        def get_external_asset(
            self, model: ManifestModel, default: dg.AssetSpec
        ) -> dg.AssetSpec | None:
            return None if model.name == "raw.orders" else default

    ours = build_definitions(
        AutomationSettings(project=automation.project), translator=Translator()
    )
    merged = dg.Definitions.merge(dg.Definitions(assets=[load_orders, dashboard]), ours)
    graph = merged.resolve_asset_graph()
    assert key("raw/orders") in graph.get(key("staging/orders")).parent_keys
    assert graph.get(key("raw/orders")).is_materializable
    assert key("dashboard") in graph.get(key("sales/orders")).child_keys
    assert not graph.get(key("raw/payments")).is_materializable


def test_the_run_takes_the_steps_in_one_process(automation: Automation) -> None:
    assert automation.location.definitions.executor is sqlmesh_executor
