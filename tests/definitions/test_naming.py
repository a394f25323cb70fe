"""Names of checks, ops, tags and owners: stable, unique, and such that Dagster accepts them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import dagster as dg
import pytest
from hypothesis import example, given, settings, strategies as st

from dagster_sqlmesh_automation.assets.naming import (
    ENVIRONMENT_CHECK,
    audit_use,
    check_names,
    identifier,
    op_name,
    owner,
    tag_key,
)
from dagster_sqlmesh_automation.automation.definitions import build_definitions
from dagster_sqlmesh_automation.config.settings import AutomationSettings

Use = tuple[str, Mapping[str, str]]

steady = settings(deadline=None, derandomize=True, max_examples=60)
values = st.one_of(
    st.sampled_from(["a", "a_b", "(a, b)", "a > 0", "a < 0", "'x'", "-1", "1", "1.5", ""]),
    st.text("ab01_ ,()'.<>=-äß", max_size=150),
)
uses = st.tuples(
    st.sampled_from(["not_null", "forall", "accepted_values"]),
    st.dictionaries(st.sampled_from(["columns", "criteria", "is_in"]), values, max_size=3),
)

texts = st.text("aB_-./ äö@:'\"", min_size=1, max_size=30)
keys = st.lists(texts, min_size=1, max_size=3)


# Checks


def names(*uses: Use) -> list[str]:
    """The checks of a model with some uses of audits, in their order."""
    by_use = check_names(uses)
    return [by_use[audit_use(*use)] for use in uses]


@pytest.mark.parametrize(
    ("audit", "args", "expected"),
    [
        ("assert_positive", {}, "assert_positive"),
        ("unique_values", {"columns": "(item_id)"}, "unique_values__item_id"),
        ("not_null", {"columns": "(a, b)"}, "not_null__a_b"),
        ("at_least", {"rows": "10", "of": "days"}, "at_least__rows_10__of_days"),
        ("accepted_values", {"column": "x", "is_in": "('a')"}, "accepted_values__x__is_in_a"),
        ("forall", {"criteria": "(a >= 0, b <> -1)"}, "forall__a_ge_0_b_ne_minus_1"),
        ("newer", {"than": "'2026-01-31'"}, "newer__than_2026_01_31"),
        ("forall", {"criteria": "''"}, "forall"),
        ("sqlmesh.odd-name", {"x": ""}, "sqlmesh_odd_name__x"),
    ],
)
def test_a_check_has_the_words_of_its_audit_and_arguments_and_no_digest(
    audit: str, args: dict[str, str], expected: str
) -> None:
    assert names((audit, args)) == [expected]
    # Others beside it change nothing.
    assert names(("forall", {"criteria": "x"}), (audit, args))[1] == expected


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param({"columns": "(a, b)"}, {"columns": "a_b"}, id="a list and a name like it"),
        pytest.param({"column": "a"}, {"columns": "a"}, id="another argument that is not named"),
        pytest.param({"value": "'ä'"}, {"value": "'ö'"}, id="letters that Dagster refuses"),
        pytest.param({"value": "'A'"}, {"value": "'a'"}, id="upper and lower case, as in MySQL"),
        pytest.param({"a": "b_c"}, {"a_b": "c"}, id="the border of name and value"),
        pytest.param({"q": "x" * 200 + "1"}, {"q": "x" * 200 + "2"}, id="a late difference"),
        pytest.param({"columns": "''"}, {}, id="no arguments"),
    ],
)
def test_uses_with_the_same_words_are_two_checks_whatever_their_order(
    first: dict[str, str], second: dict[str, str]
) -> None:
    one, other = names(("forall", first), ("forall", second))
    assert one.lower() != other.lower()
    assert all(re.search(r"_[0-9a-f]{6}$", name) for name in (one, other))
    assert names(("forall", second), ("forall", first)) == [other, one]
    assert names(("forall", second), ("not_null", {"columns": "a"}), ("forall", first)) == [
        other,
        "not_null__a",
        one,
    ]


def test_a_check_whose_words_end_like_the_digest_of_another_keeps_them() -> None:
    uses = [("forall", {"criteria": "a_b"}), ("forall", {"criteria": "(a, b)"})]
    taken = names(*uses)[0]
    digest = taken.rpartition("_")[2]
    every = names(*uses, ("forall", {"criteria": f"a_b_{digest}"}))
    assert every[2] == taken
    assert len(set(every)) == 3


def test_an_audit_called_like_the_check_of_the_environment_gets_a_digest() -> None:
    assert ENVIRONMENT_CHECK == "sqlmesh_environment"
    (name,) = names((ENVIRONMENT_CHECK, {}))
    assert re.fullmatch(rf"{ENVIRONMENT_CHECK}_[0-9a-f]{{6}}", name)


def test_a_check_has_the_same_name_in_every_version() -> None:
    # Dagster keeps a check's history under its name. Change these only with a note on upgrading.
    uses = [("not_null", {"columns": "(a, b)"}), ("not_null", {"columns": "a_b"})]
    assert names(*uses[:1]) == ["not_null__a_b"]
    assert names(*uses) == ["not_null__a_b_a857a8", "not_null__a_b_eb5cfc"]


def test_a_check_with_long_arguments_has_a_name_of_bounded_length() -> None:
    columns = ", ".join(f"a_rather_long_column_name_{number}" for number in range(50))
    (name,) = names(("not_null", {"columns": f"({columns})"}))
    assert name.startswith("not_null__a_rather_long_column_name_0_a_rather_long")
    assert len(name) <= 80
    assert not name.endswith("_")


@steady
@given(st.lists(uses, max_size=5))
def test_every_use_has_a_check_of_its_own_whatever_their_order(every: list[Use]) -> None:
    by_use = check_names(every)
    assert check_names(every[::-1]) == by_use
    assert len({name.lower() for name in by_use.values()}) == len(by_use)
    distinct = [*dict.fromkeys(json.dumps([audit, *args.items()]) for audit, args in every)]
    assert len(by_use) == len(distinct)


@steady
@given(uses)
def test_dagster_accepts_every_check_name(use: Use) -> None:
    (name,) = names(use)
    assert re.fullmatch(r"[A-Za-z0-9_]{1,128}", name)
    dg.AssetCheckSpec(name, asset="model")


MODEL = "MODEL (name shop.orders, kind FULL, audits ({audits}));\nSELECT 1 AS id, 2 AS price\n"
AUDITS = [
    "not_null(columns := (id, price))",
    "forall(criteria := (price > 0))",
    "forall(criteria := (price < 9))",
    "unique_values(columns := id)",
]


def audit_checks(definitions: dg.Definitions) -> list[str]:
    keys = definitions.resolve_asset_graph().asset_check_keys
    return [key.name for key in keys if key.name != ENVIRONMENT_CHECK]


def test_adding_or_moving_an_audit_in_the_model_renames_no_check(tmp_path: Path) -> None:
    def checks(*audits: str) -> list[str]:
        text = MODEL.format(audits=", ".join(audits))
        graph = build_definitions(project(tmp_path, {"models/orders.sql": text}))
        return audit_checks(graph)

    every = checks(*AUDITS)
    assert len(set(every)) == 4
    assert set(checks(*AUDITS[::-1])) == set(every)
    for number, audit in enumerate(AUDITS):
        assert set(checks(audit)) < set(every)
        others = AUDITS[:number] + AUDITS[number + 1 :]
        assert set(every) - set(checks(*others)) == set(checks(audit))
    assert checks(AUDITS[0], AUDITS[0]) == checks(AUDITS[0])


# Ops


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (["a", "b__c"], ["a__b", "c"]),
        (["a", "_b"], ["a_", "b"]),
        (["a.b", "c"], ["a", "b.c"]),
        (["a-b"], ["a_b"]),
        (["a/b", "c"], ["a", "b/c"]),
        (["x/", "y"], ["x", "/y"]),
        (["a", "b", "c"], ["a", "b__c"]),
        (["ä", "b"], ["ö", "b"]),
        (["a", "B"], ["a", "b"]),
    ],
)
def test_keys_that_look_alike_have_ops_of_their_own(first: list[str], second: list[str]) -> None:
    assert op_name(first) != op_name(second)


def test_an_ordinary_key_has_a_plain_op_name() -> None:
    assert op_name(["sales", "daily_revenue"]) == "sales__daily_revenue"


@steady
@example(["a", "_b"], ["a_", "b"])
@given(keys, keys)
def test_ops_have_one_name_exactly_where_keys_are_equal(
    first: Sequence[str], second: Sequence[str]
) -> None:
    assert (op_name(first) == op_name(second)) == (first == second)


@steady
@given(keys)
def test_dagster_accepts_every_op_name(key: list[str]) -> None:
    @dg.op(name=op_name(key))
    def _op() -> None: ...


def project(folder: Path, files: Mapping[str, str]) -> AutomationSettings:
    """A SQLMesh project with some files."""
    config = {
        "config.yaml": "model_defaults: {dialect: duckdb}\ngateways: {main: {connection: "
        f"{{type: duckdb, database: '{folder}/warehouse.duckdb'}}}}}}\n"
    }
    for name, text in {**config, **files}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return AutomationSettings(project=folder)


@pytest.mark.parametrize(
    "models",
    [
        pytest.param(["a_.b", "a._b"], id="underscores at the border"),
        pytest.param(["a__b.c", "a.b__c"], id="two underscores"),
        pytest.param(['a."b c"', 'a."b$c"', 'a."bäc"', 'a."b/c"'], id="characters in quotes"),
    ],
)
def test_models_with_names_like_these_become_assets_of_their_own(
    tmp_path: Path, models: list[str]
) -> None:
    settings = project(
        tmp_path,
        {
            f"models/{number}.sql": f"MODEL (name {name}, kind FULL);\nSELECT 1 AS x\n"
            for number, name in enumerate(models)
        },
    )
    definitions = build_definitions(settings)
    dg.Definitions.validate_loadable(definitions)
    assert len(definitions.resolve_all_asset_keys()) == len(models)


def test_a_standalone_audit_and_a_model_of_schema_audit_do_not_share_an_op(tmp_path: Path) -> None:
    settings = project(
        tmp_path,
        {
            "models/a.sql": "MODEL (name audit.orders, kind FULL);\nSELECT 1 AS x\n",
            "audits/a.sql": "AUDIT (name orders, standalone TRUE);\n"
            "SELECT x FROM audit.orders WHERE x > 1\n",
        },
    )
    definitions = build_definitions(settings)
    dg.Definitions.validate_loadable(definitions)
    assert audit_checks(definitions) == ["orders"]


# Owners, tags, identifiers


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("anna@jaffle-shop.example", "anna@jaffle-shop.example"),
        ("analytics-engineering", "team:analytics_engineering"),
        ("team:growth", "team:growth"),
        ("Data & Growth", "team:Data___Growth"),
        ("@anna", "team:_anna"),
    ],
)
def test_an_owner_is_an_address_or_a_team(name: str, expected: str) -> None:
    assert owner(name) == expected


@pytest.mark.parametrize("name", ["o'brien@jaffle-shop.example", "team:"])
def test_an_owner_that_dagster_would_refuse_does_not_stop_the_definitions(name: str) -> None:
    dg.AssetSpec("model", owners=[owner(name)])


@steady
@given(st.one_of(texts, st.emails()))
def test_dagster_accepts_every_owner(name: str) -> None:
    dg.AssetSpec("model", owners=[owner(name)])


@pytest.mark.parametrize(
    ("tag", "expected"),
    [("pii", "pii"), ("a.b-c_d", "a.b-c_d"), ("team: growth", "team__growth"), ("", "_")],
)
def test_a_tag_keeps_what_dagster_accepts_of_it(tag: str, expected: str) -> None:
    assert tag_key(tag) == expected


@steady
@given(st.text(max_size=100))
def test_dagster_accepts_every_tag_and_identifier(text: str) -> None:
    dg.AssetSpec("model", tags={tag_key(text): ""}, group_name=identifier(text))
