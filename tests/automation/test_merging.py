"""Merged with a code location that is there already: neighbours, executors, conditions."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from support.ticks import Automation

from dagster_sqlmesh_automation import (
    AutomationSettings,
    SqlmeshDue,
    SQLMeshTranslator,
    build_definitions,
    sqlmesh_executor,
)
from dagster_sqlmesh_automation.assets.project.manifest import ManifestModel
from dagster_sqlmesh_automation.automation.definitions import Location
from dagster_sqlmesh_automation.config.errors import (
    DuplicateAssetKey,
    NotASQLMeshAsset,
    SettingsError,
)

FIRST = datetime(2026, 10, 14, 1, tzinfo=UTC)
NEVER = dg.AutomationCondition.in_progress()
"""Holds for no asset here, since nothing runs."""


def key(text: str) -> dg.AssetKey:
    return dg.AssetKey(text.split("/"))


def plain(text: str, *deps: str) -> dg.AssetsDefinition:
    """An asset of another kind."""

    @dg.asset(key=key(text), deps=[key(dep) for dep in deps])
    def made() -> None: ...

    return made


def graph(settings: AutomationSettings, *others: dg.AssetsDefinition, **kwargs: Any) -> Any:
    ours = build_definitions(settings, **kwargs)
    merged = dg.Definitions.merge(dg.Definitions(assets=list(others)), ours)
    dg.Definitions.validate_loadable(merged)
    return merged.resolve_asset_graph()


# Neighbours


def test_a_template_connects_all_external_models_to_assets_of_other_kinds(example: Path) -> None:
    """Such as those of dbt or dlt, with more parts in their keys; and downstream of models."""
    found = graph(
        AutomationSettings(project=example, external_asset_key="warehouse/{schema}/src_{name}"),
        plain("warehouse/raw/src_orders"),
        plain("dashboard", "sales/orders"),
    )
    assert key("warehouse/raw/src_orders") in found.get(key("staging/orders")).parent_keys
    assert found.get(key("warehouse/raw/src_orders")).is_materializable
    assert found.get(key("dashboard")).parent_keys == {key("sales/orders")}
    assert not found.has(key("raw/orders"))
    # Nobody has defined it: Dagster shows what is read nevertheless.
    payments = found.get(key("warehouse/raw/src_payments"))
    assert payments.is_external
    assert payments.child_keys == {key("staging/payments")}
    assert "sqlmesh/environment" not in payments.tags


def test_the_prefix_of_keys_is_not_for_the_assets_of_others(example: Path) -> None:
    found = graph(
        AutomationSettings(
            project=example, external_asset_key="raw/{name}", asset_key_prefix="finance"
        ),
        plain("raw/orders"),
    )
    assert found.get(key("finance/staging/orders")).parent_keys == {key("raw/orders")}


def test_one_asset_may_make_all_tables_of_a_schema(example: Path) -> None:
    settings = AutomationSettings(project=example, external_asset_key="load_{schema}")
    found = graph(settings, plain("load_raw"))
    assert key("staging/orders") in found.get(key("load_raw")).child_keys
    assert key("staging/payments") in found.get(key("load_raw")).child_keys


def test_an_external_model_and_a_model_must_not_share_a_key(example: Path) -> None:
    settings = AutomationSettings(project=example, external_asset_key="staging/{name}")
    with pytest.raises(DuplicateAssetKey, match="staging/customers"):
        build_definitions(settings)


def test_a_translator_connects_single_external_models(example: Path) -> None:
    class Translator(SQLMeshTranslator):
        def get_asset_key(self, model: ManifestModel) -> dg.AssetKey:
            if model.name == "raw.orders":
                return key("dlt_shop_orders")
            return super().get_asset_key(model)

        def get_external_asset(
            self, model: ManifestModel, default: dg.AssetSpec
        ) -> dg.AssetSpec | None:
            return None if model.name == "raw.orders" else default

    found = graph(
        AutomationSettings(project=example),
        plain("dlt_shop_orders"),
        translator=Translator(),
    )
    assert found.get(key("staging/orders")).parent_keys == {key("dlt_shop_orders")}
    assert found.get(key("raw/payments")).is_external


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("raw/{table}", "raw/{schema}/{name}"),
        ("raw/{name", "expected '}'"),
        ("raw/{name!r}", "raw/{schema}/{name}"),
        ("raw.{name}", "raw/{schema}/{name}"),
        ("", "raw/{schema}/{name}"),
        ("{}", "raw/{schema}/{name}"),
    ],
)
def test_a_template_that_cannot_be_used_is_refused(template: str, told: str) -> None:
    with pytest.raises(SettingsError) as caught:
        AutomationSettings(external_asset_key=template)
    assert f"SQLMESH_AUTOMATION_EXTERNAL_ASSET_KEY={template!r}" in str(caught.value)
    assert told in str(caught.value)


def test_the_default_catalog_has_a_name_too(example: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQLMESH_AUTOMATION_EXTERNAL_ASSET_KEY", "{catalog}/{schema}/{name}")
    found = graph(AutomationSettings(project=example), plain("jaffle_shop/raw/orders"))
    assert key("jaffle_shop/raw/orders") in found.get(key("staging/orders")).parent_keys


# Executors


def test_an_executor_of_the_users_takes_the_place_of_ours(example: Path) -> None:
    settings = AutomationSettings(project=example)
    theirs = dg.Definitions(executor=dg.multiprocess_executor)
    with pytest.raises(dg.DagsterInvariantViolationError, match="executor"):
        dg.Definitions.merge(theirs, build_definitions(settings))

    merged = dg.Definitions.merge(theirs, build_definitions(settings, executor=None))
    job = merged.resolve_implicit_global_asset_job_def()
    assert job.executor_def is dg.multiprocess_executor
    assert build_definitions(settings, executor=dg.multiprocess_executor).executor is (
        dg.multiprocess_executor
    )


def test_two_environments_are_merged_as_they_are(example: Path) -> None:
    merged = dg.Definitions.merge(
        build_definitions(AutomationSettings(project=example)),
        build_definitions(
            AutomationSettings(project=example, environment="dev", asset_key_prefix="dev")
        ),
    )
    assert merged.executor is sqlmesh_executor
    assert {key("staging/orders"), key("dev/staging/orders")} <= set(
        merged.resolve_all_asset_keys()
    )


# Conditions


def automation(
    example: Path,
    instance: dg.DagsterInstance,
    change: Any,
    translator: SQLMeshTranslator | None = None,
) -> Automation:
    """The example, with the specs of ``staging.orders`` and ``marketing.sessions`` changed."""
    made = Automation(example, instance, Location(AutomationSettings(project=example), translator))
    changed = dg.AssetSelection.assets("staging/orders", "marketing/sessions")
    made.location.definitions = made.location.definitions.map_resolved_asset_specs(
        func=change, selection=changed
    )
    return made


def with_condition(condition: dg.AutomationCondition[Any]) -> Any:
    return lambda spec: spec.replace_attributes(automation_condition=condition)


def test_a_condition_is_composed_without_the_default_at_hand(
    example: Path, instance: dg.DagsterInstance
) -> None:
    alone = automation(example, instance, with_condition(SqlmeshDue())).tick(FIRST)
    held = automation(example, instance, with_condition(SqlmeshDue() & NEVER)).tick(FIRST)
    opened = automation(example, instance, with_condition(SqlmeshDue() & ~NEVER)).tick(FIRST)

    assert {"staging/orders", "marketing/sessions", "sales/orders"} <= alone.requested
    assert opened.requested == alone.requested
    assert not held.requested & {"staging/orders", "marketing/sessions", "sales/orders"}
    (shown,) = (e for e in alone.evaluations if e.key == key("staging/orders"))
    (default,) = shown.child_evaluations
    assert [child.condition_snapshot.name for child in default.child_evaluations][1:] == [
        "schedule open (whenever it is due)",
        "not in progress",
        "upstream ready",
        "retry allowed",
        "within limits",
    ]


def test_it_is_no_change_where_it_stands_alone(example: Path, instance: dg.DagsterInstance) -> None:
    """A tick of ours alone evaluates nothing where nothing has changed."""
    for condition, composed in ((SqlmeshDue(), False), (SqlmeshDue() & ~NEVER, True)):
        made = automation(example, instance, with_condition(condition))
        made.location.planner.learn(made.repository.asset_graph)
        assert made.location.planner.composed is composed


def test_the_condition_that_an_asset_has_can_be_composed(
    example: Path, instance: dg.DagsterInstance
) -> None:
    def held(spec: dg.AssetSpec) -> dg.AssetSpec:
        assert spec.automation_condition is not None
        return spec.replace_attributes(automation_condition=spec.automation_condition & NEVER)

    tick = automation(example, instance, held).tick(FIRST)
    assert tick.requested
    assert not tick.requested & {"staging/orders", "marketing/sessions", "sales/orders"}


def test_a_translator_composes_it_too(example: Path, instance: dg.DagsterInstance) -> None:
    class Translator(SQLMeshTranslator):
        def get_automation_condition(
            self, model: ManifestModel, default: dg.AutomationCondition[Any]
        ) -> dg.AutomationCondition[Any] | None:
            return SqlmeshDue() & NEVER if model.name == "staging.orders" else default

    made = Automation(
        example, instance, Location(AutomationSettings(project=example), Translator())
    )
    tick = made.tick(FIRST)
    assert "staging/orders" not in tick.requested
    assert "staging/payments" in tick.requested


def test_elsewhere_it_is_an_error_that_names_the_asset(
    example: Path, instance: dg.DagsterInstance
) -> None:
    @dg.asset(automation_condition=SqlmeshDue())
    def report() -> None: ...

    with pytest.raises(Exception, match="conditions for report") as caught:
        dg.evaluate_automation_conditions(
            dg.Definitions(assets=[report]), instance, evaluation_time=FIRST
        )
    assert isinstance(caught.value.__cause__, NotASQLMeshAsset)
    assert "'report'" in str(caught.value.__cause__)


def test_a_translator_has_the_last_word_on_an_asset_but_for_what_finds_it(example: Path) -> None:
    class Translator(SQLMeshTranslator):
        def get_asset_spec(self, model: ManifestModel, default: dg.AssetSpec) -> dg.AssetSpec:
            return dg.AssetSpec("elsewhere", description="ours", tags={"a": "b"})

    found = build_definitions(AutomationSettings(project=example), translator=Translator())
    orders = found.resolve_asset_graph().get(key("staging/orders"))
    assert orders.description == "ours"
    assert orders.tags == {"a": "b", "sqlmesh/environment": "prod"}
