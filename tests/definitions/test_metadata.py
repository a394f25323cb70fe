"""What an asset shows of its model: columns, lineage, code, tables, query."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from support.outcome_helpers import small_project
from support.ticks import Automation
from support.warehouse import MODELS, NEXT_DAY, Warehouse, warehouse

from dagster_sqlmesh_automation import AutomationSettings, build_definitions

ODD = """
MODEL (name shop.odd, kind FULL, owner 'Data & Co', tags ('p 1', 'nightly'),
  grains (id, (id, day)), references (customer_id AS customer), description 'Odd things.');
SELECT id::INT AS id, day::DATE AS day, id::INT AS customer_id FROM shop.events
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    folder = tmp_path_factory.mktemp("metadata") / "shop"
    return warehouse(folder, models={**MODELS, "models/odd.sql": ODD})


def specs(project: Path, **settings: Any) -> dict[str, dg.AssetSpec]:
    definitions = build_definitions(AutomationSettings(project=project, **settings))
    found = definitions.resolve_all_asset_specs()
    return {spec.key.to_user_string(): spec for spec in found}


def test_columns_have_types_descriptions_and_what_they_are_made_from(planned_example: Path) -> None:
    found = specs(planned_example)["sales/daily_revenue"].metadata
    schema = found["dagster/column_schema"]
    columns = {column.name: (column.type, column.description) for column in schema.columns}
    assert columns["revenue"] == ("DECIMAL(12, 2)", "Net amount of the orders.")
    lineage = found["dagster/column_lineage"].deps_by_column
    orders = dg.AssetKey(["sales", "orders"])
    assert lineage["revenue"] == [dg.TableColumnDep(orders, "net_amount")]
    assert {each.column_name for each in lineage["gross_margin"]} == {
        "items_cost", "net_amount", "status",
    }  # fmt: skip
    assert found["dagster/table_name"] == "jaffle_shop.sales.daily_revenue"
    assert found["sqlmesh/grains"] == "(revenue_date, store_id)"
    assert found["sqlmesh/cron"] == "@daily"
    mapped = specs(planned_example, cron_map={"@daily": "0 6 * * *"})["sales/daily_revenue"]
    assert mapped.metadata["sqlmesh/schedule"] == "0 6 * * * UTC"


def test_lineage_leads_to_the_keys_that_the_assets_have(shop: Warehouse) -> None:
    found = specs(shop.project, asset_key_prefix="finance", external_asset_key="lake/{name}")
    lineage = found["finance/shop/events"].metadata["dagster/column_lineage"].deps_by_column
    assert lineage["day"] == [dg.TableColumnDep(dg.AssetKey(["lake", "events"]), "day")]
    lineage = found["finance/shop/odd"].metadata["dagster/column_lineage"].deps_by_column
    assert lineage["id"] == [dg.TableColumnDep(dg.AssetKey(["finance", "shop", "events"]), "id")]


def test_the_ui_links_to_the_line_of_the_file(planned_example: Path) -> None:
    found = specs(planned_example)["marketing/customer_segments"].metadata
    (reference,) = found["dagster/code_references"].code_references
    file = planned_example / "models" / "marketing" / "customer_segments.py"
    assert reference.file_path == str(file)
    assert file.read_text().splitlines()[reference.line_number - 1].startswith("def execute")


def test_what_dagster_cannot_hold_is_kept_beside(shop: Warehouse) -> None:
    odd = specs(shop.project)["shop/odd"]
    assert {"p_1", "nightly"} <= set(odd.tags)
    assert odd.metadata["sqlmesh/tags"] == "p 1, nightly"
    assert odd.owners == ["team:Data___Co"]
    assert odd.metadata["sqlmesh/owner"] == "Data & Co"
    assert odd.metadata["sqlmesh/grains"] == "id, (id, day)"
    assert odd.metadata["sqlmesh/references"] == "customer_id AS customer"
    assert odd.kinds == {"sqlmesh"}


def test_the_query_stands_below_the_description_as_far_as_it_may(shop: Warehouse) -> None:
    def described(**settings: Any) -> str:
        return specs(shop.project, **settings)["shop/odd"].description or ""

    text = described()
    assert text.startswith("Odd things.\n\n```sql\nSELECT")
    assert "FROM shop.events" in text
    assert text.endswith("```")
    # Rendered: with the table that is read, and typed.
    assert '"shop"."events"' in described(description_sql="rendered")
    cut = described(description_sql_characters=20)
    assert cut.endswith("-- (cut)\n```")
    assert len(cut) < 70
    assert described(description_sql_characters=0) == "Odd things."
    assert described(description_sql="none") == "Odd things."


def test_a_query_stands_as_it_is_written_with_its_macros_and_its_jinja(tmp_path: Path) -> None:
    head = "MODEL (name tiny.{name}, kind INCREMENTAL_BY_TIME_RANGE (time_column ds), "
    files = {
        "models/macros.sql": head.format(name="macros")
        + "cron '@weekly', cron_tz 'Europe/Berlin');\n"
        "/* Why. */ SELECT @start_ds AS ds, @IF(TRUE, 1, 2) AS x\n"
        "WHERE 'a' BETWEEN @start_ds AND 'b'",
        "models/jinja.sql": head.format(name="jinja")
        + "description ' ', audits (not_null(columns := (ds))));\n"
        "JINJA_QUERY_BEGIN;\n"
        "SELECT '{{ start_ds }}' AS ds, {% if true %}1{% endif %} AS x\n"
        "JINJA_END;",
    }
    project = small_project(tmp_path / "small", files)

    macros = specs(project)["tiny/macros"].description
    assert macros is not None
    assert macros.startswith("INCREMENTAL_BY_TIME_RANGE model, @weekly Europe/Berlin\n\n```sql\n")
    assert all(words in macros for words in ("/* Why. */", "BETWEEN @start_ds AND", "@IF(TRUE"))
    jinja = specs(project)["tiny/jinja"].description
    assert jinja == (
        "INCREMENTAL_BY_TIME_RANGE model, @daily, 1 audit\n\n"
        "```sql\nSELECT '{{ start_ds }}' AS ds, {% if true %}1{% endif %} AS x\n```"
    )
    rendered = specs(project, description_sql="rendered")["tiny/jinja"].description or ""
    assert "'1970-01-01' AS \"ds\"" in rendered


def test_no_description_begins_with_a_query(planned_example: Path) -> None:
    for key, spec in specs(planned_example).items():
        first = (spec.description or "").partition("\n")[0]
        assert first, key
        assert "```" not in first, key


@pytest.mark.parametrize(
    ("environment", "relation"),
    [("prod", "warehouse.shop.events"), ("dev_anna", "warehouse.shop__dev_anna.events")],
)
def test_the_relation_is_the_one_that_people_read(
    shop: Warehouse, environment: str, relation: str
) -> None:
    found = specs(shop.project, environment=environment)["shop/events"].metadata
    assert found["dagster/table_name"] == relation


def test_a_materialization_tells_what_was_done(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    shop = warehouse(tmp_path / "shop")
    _, run = Automation.of(shop.project, instance).tick_and_run(NEXT_DAY)
    assert run is not None
    made = {key: each.value for key, each in run.materialized()["shop/events"].metadata.items()}
    assert made["sqlmesh/interval_count"] == 1
    assert made["sqlmesh/audits"] == 2
    assert made["sqlmesh/audits_failed"] == 0
    assert isinstance(made["sqlmesh/duration_ms"], int)
    (rows,) = shop.query(f"SELECT COUNT(*) FROM {made['sqlmesh/table']}")
    assert rows == shop.query("SELECT COUNT(*) FROM shop.events")[0]
