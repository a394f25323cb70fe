"""Columns of models and the columns that they are made from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from sqlmesh.core import lineage

from dagster_sqlmesh_automation.assets.project.manifest import Manifest
from dagster_sqlmesh_automation.assets.project.manifest_file import prepare
from dagster_sqlmesh_automation.assets.project.opening import load_manifest
from dagster_sqlmesh_automation.config.settings import AutomationSettings

WIDE = 300

FILES: Mapping[str, str] = {
    "config.yaml": """
gateways:
  local: {connection: {type: duckdb, database: warehouse.duckdb}}
model_defaults: {dialect: duckdb, start: 2026-10-01}
""",
    "external_models.yaml": """
- name: raw.orders
  columns: {id: INT, amount: INT, "Über Name": TEXT}
""",
    "seeds/countries.csv": "code,name\nde,Germany\n",
    "models/countries.sql": """
MODEL (name shop.countries, kind SEED (path '../seeds/countries.csv'),
  columns (code TEXT, name TEXT), column_descriptions (code = 'ISO 3166'));
""",
    "models/star.sql": "MODEL (name shop.star, kind FULL);\nSELECT * FROM raw.orders\n",
    "models/cte.sql": """
-- A comment comes first.

MODEL (name shop.cte, kind FULL);
WITH paid AS (SELECT id AS order_id, amount * 2 AS twice FROM raw.orders WHERE amount > 0)
SELECT paid.order_id::INT AS order_id, (paid.twice + s.amount)::INT AS both
FROM paid JOIN shop.star AS s ON s.id = paid.order_id
""",
    "models/both.sql": """
MODEL (name shop.both_kinds, kind FULL);
SELECT id::INT AS number FROM shop.star UNION ALL SELECT order_id::INT FROM shop.cte
""",
    "models/running.sql": """
MODEL (name shop.running, kind INCREMENTAL_BY_TIME_RANGE (time_column day));
SELECT @start_date AS day, (COALESCE(MAX(r.total), 0) + SUM(o.amount))::INT AS total
FROM raw.orders AS o LEFT JOIN shop.running AS r ON TRUE
""",
    "models/unknown.sql": """
MODEL (name shop.untyped, kind VIEW);
SELECT somewhere.thing AS thing, 1::INT AS one FROM other.somewhere
""",
    "models/quoted.sql": """
MODEL (name shop.quoted, kind VIEW);
SELECT "Über Name"::TEXT AS "Groß Name" FROM raw.orders
""",
    "models/embedded.sql": """
MODEL (name shop.embedded, kind EMBEDDED);
SELECT id::INT AS id, amount::INT AS amount FROM shop.star
""",
    "models/reader.sql": """
MODEL (name shop.reader, kind FULL);
SELECT amount::INT AS amount FROM shop.embedded
""",
    "models/made.py": """
import pandas as pd
from sqlmesh import model


def helper():
    return pd.DataFrame({"id": [1]})


@model("shop.made", columns={"id": "int"}, kind="full")
def execute(context, **kwargs):
    return helper()
""",
    "models/wide.sql": "MODEL (name shop.wide, kind FULL);\nSELECT "
    + ", ".join(f"(id + {n})::INT AS c{n}" for n in range(WIDE))
    + " FROM raw.orders\n",
}

READS: Mapping[str, Mapping[str, set[str]]] = {
    "shop.countries": {"code": set(), "name": set()},
    "shop.star": {
        "id": {"raw.orders.id"},
        "amount": {"raw.orders.amount"},
        "über name": {"raw.orders.über name"},
    },
    "shop.cte": {
        "order_id": {"raw.orders.id"},
        "both": {"raw.orders.amount", "shop.star.amount"},
    },
    "shop.both_kinds": {"number": {"shop.star.id", "shop.cte.order_id"}},
    "shop.running": {"day": set(), "total": {"raw.orders.amount", "shop.running.total"}},
    # DuckDB knows no upper case, not even in quotes.
    "shop.quoted": {"groß name": {"raw.orders.über name"}},
    "shop.untyped": {"thing": {"other.somewhere.thing"}, "one": set()},
    "shop.embedded": {"id": {"shop.star.id"}, "amount": {"shop.star.amount"}},
    "shop.made": {"id": set()},
}
"""Written by hand from the queries above."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lineage")
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def manifest(folder: Path) -> Manifest:
    return prepare(AutomationSettings(project=folder), load_manifest)


def reads(manifest: Manifest, name: str) -> dict[str, set[str]]:
    names = {model.fqn: model.name for model in manifest.models}
    (model,) = (model for model in manifest.models if model.name == name)
    return {
        column.name: {f"{names[fqn]}.{read}" for fqn, read in column.reads}
        for column in model.columns
    }


@pytest.mark.parametrize("name", READS)
def test_columns_are_followed_to_those_that_they_are_made_from(
    manifest: Manifest, name: str
) -> None:
    assert reads(manifest, name) == READS[name]


def test_an_embedded_model_counts_as_what_it_is_read_for(manifest: Manifest) -> None:
    assert reads(manifest, "shop.reader") in (
        {"amount": {"shop.embedded.amount"}},
        {"amount": {"shop.star.amount"}},
    )


def test_many_columns_are_all_there(manifest: Manifest) -> None:
    assert reads(manifest, "shop.wide") == {f"c{n}": {"raw.orders.id"} for n in range(WIDE)}


def test_types_and_descriptions_are_sqlmeshs(manifest: Manifest) -> None:
    found = {model.name: model for model in manifest.models}
    code = found["shop.countries"].columns[0]
    assert (code.name, code.type, code.description) == ("code", "TEXT", "ISO 3166")
    assert [c.type for c in found["shop.untyped"].columns] == ["UNKNOWN", "INT"]


def test_files_are_known_by_the_line_on_which_a_model_begins(manifest: Manifest) -> None:
    lines = {model.name: (model.path, model.line) for model in manifest.models}
    assert lines["shop.cte"] == ("models/cte.sql", 4)
    assert lines["shop.made"] == ("models/made.py", 11)
    assert lines["shop.star"] == ("models/star.sql", 1)


@pytest.fixture
def followed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Names of the models through whose query SQLMesh follows a column."""
    names: list[str] = []
    original = lineage.lineage

    def listening(column: object, model: object, *args: object, **kwargs: object) -> object:
        names.append(model.name)  # type: ignore[attr-defined]
        return original(column, model, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(lineage, "lineage", listening)
    return iter([names])


def test_only_what_has_changed_is_followed_again(
    folder: Path, manifest: Manifest, followed: Iterator[list[str]]
) -> None:
    (names,) = followed
    settings = AutomationSettings(project=folder)
    again = prepare(settings, load_manifest, force=True)
    assert names == []
    assert again.models == manifest.models

    star = folder / "models" / "star.sql"
    star.write_text(FILES["models/star.sql"].replace("*", "*, 7::INT AS seven"))
    try:
        changed = prepare(settings, load_manifest)
    finally:
        star.write_text(FILES["models/star.sql"])
    assert "seven" in reads(changed, "shop.star")
    assert "shop.star" in names
    assert not {"shop.wide", "shop.untyped", "shop.quoted"} & set(names)
    # What reads it sees other columns.
    assert "shop.cte" in names
