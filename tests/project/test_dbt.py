"""A dbt project, which SQLMesh loads with its dbt loader: its models are assets as any others."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import duckdb
import pytest
from support import projects
from support.schema import tick_json

from dagster_sqlmesh_automation.automation.definitions import Location
from dagster_sqlmesh_automation.config.settings import AutomationSettings

# The oldest versions are tested without it.
pytest.importorskip("dbt.adapters.duckdb")

FILES = {
    "config.py": (
        "from pathlib import Path\n"
        "from sqlmesh.dbt.loader import sqlmesh_config\n"
        "config = sqlmesh_config(Path(__file__).parent)\n"
    ),
    "dbt_project.yml": (
        "name: shop\n"
        "version: '1.0'\n"
        "profile: shop\n"
        "models:\n"
        "  +start: 2026-10-01\n"
        "  shop:\n"
        "    orders:\n"
        "      +cron: '@hourly'\n"
    ),
    "profiles.yml": (
        "shop:\n"
        "  target: dev\n"
        "  outputs:\n"
        "    dev: {type: duckdb, path: %s/shop.duckdb, schema: shop}\n"
    ),
    "seeds/raw_orders.csv": "id,amount\n1,10\n2,20\n",
    "models/orders.sql": (
        "{{ config(materialized='table', tags=['finance']) }}\n"
        "SELECT id, amount FROM {{ ref('raw_orders') }}\n"
    ),
    "models/revenue.sql": "SELECT SUM(amount) AS revenue FROM {{ ref('orders') }}\n",
    "models/schema.yml": (
        "version: 2\n"
        "models:\n"
        "  - name: orders\n"
        "    description: What was ordered.\n"
        "    columns:\n"
        "      - name: id\n"
        "        data_tests: [not_null, unique]\n"
    ),
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text % tmp_path if "%s" in text else text)
    projects.plan(tmp_path, datetime(2026, 10, 14, tzinfo=UTC))
    return tmp_path


def test_dbt_models_are_assets_with_checks_and_are_evaluated_when_due(project: Path) -> None:
    location = Location(AutomationSettings(project=project))
    keys = {key.to_user_string() for key in location.definitions.resolve_all_asset_keys()}
    assert {"shop/orders", "shop/revenue", "shop/raw_orders"} <= keys
    graph = location.definitions.resolve_asset_graph()
    orders = graph.get(dg.AssetKey(["shop", "orders"]))
    assert {key.to_user_string() for key in orders.parent_keys} == {"shop/raw_orders"}
    assert {"finance"} <= orders.tags.keys()

    document = tick_json(project, "--at", "2026-10-14T01:00")
    models = {model["asset_key"]: model for model in document["models"]}
    assert models["shop/orders"]["outcome"] == "executed"
    assert {check["passed"] for check in models["shop/orders"]["checks"]} == {True}
    assert len(models["shop/orders"]["checks"]) == 2
    assert document["executions"] == 1
    with duckdb.connect(str(project / "shop.duckdb"), read_only=True) as connection:
        assert connection.execute("SELECT revenue FROM shop.shop.revenue").fetchall() == [(30,)]
