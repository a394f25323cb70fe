"""How each model is automated: which patterns mean it, and which rule or setting counts."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from dagster_sqlmesh_automation.assets.definitions.policy import DEFAULT, Policy, matches, policies
from dagster_sqlmesh_automation.assets.project.manifest import (
    Manifest,
    ManifestModel,
    ManifestStandaloneAudit,
)
from dagster_sqlmesh_automation.config.cron import Schedule
from dagster_sqlmesh_automation.config.errors import SettingsError
from dagster_sqlmesh_automation.config.settings import AutomationSettings


def model(name: str, kind: str = "FULL", cron: str = "@daily", *tags: str) -> ManifestModel:
    schema, table = name.split(".")
    return ManifestModel(
        fqn=f'"db"."{schema}"."{table}"',
        name=name,
        kind=kind,
        schema=schema,
        table=table,
        cron=cron,
        source="sql",
        dialect="duckdb",
        tags=tags,
        code_version="1",
        metadata_hash="1",
        **dict.fromkeys(("catalog", "cron_tz", "description", "owner", "path")),
        **dict.fromkeys(("depends_on", "signals", "audits"), ()),
    )


ORDERS = model("sales.orders", "INCREMENTAL_BY_TIME_RANGE", "@hourly", "nightly", "Finance")
REVENUE = model("sales.Revenue", "FULL", "0 0 * * *", "finance")
STAFF = model("hr.staff", "VIEW", "@daily")
RAW = model("raw.events", "EXTERNAL")
AUDIT = ManifestStandaloneAudit("assert_paid", "assert_paid", "@daily", None, (), None, None)
MANIFEST = Manifest("", "", "duckdb", "duckdb", (RAW, ORDERS, REVENUE, STAFF), (AUDIT,), None)
NODES = {"orders": ORDERS, "revenue": REVENUE, "staff": STAFF, "audit": AUDIT}


def policies_of(**settings: Any) -> dict[str, Policy]:
    """Policies of the manifest's models by short name."""
    made = AutomationSettings(project="/srv/shop", **settings)
    found = policies(made, MANIFEST)
    return {name: found[node.fqn] for name, node in NODES.items()}


@pytest.mark.parametrize(
    ("pattern", "meant"),
    [
        ("sales.orders", {"orders"}),
        ("SALES.Orders", {"orders"}),
        ("sales.revenue", {"revenue"}),
        (" sales.orders ", {"orders"}),
        ("orders", set()),
        ("sales.*", {"orders", "revenue"}),
        ("*.orders", {"orders"}),
        ("*", {"orders", "revenue", "staff", "audit"}),
        ("*.*", {"orders", "revenue", "staff"}),
        ("hr.staf?", {"staff"}),
        ("hr.sta?", set()),
        ("[sh]*.[!o]*", {"revenue", "staff"}),
        ("db.sales.orders", {"orders"}),
        ("db.*", {"orders", "revenue", "staff"}),
        ("tag:nightly", {"orders"}),
        ("tag:finance", {"orders", "revenue"}),
        ("TAG: Finance", {"orders", "revenue"}),
        (" tag:night*", {"orders"}),
        ("tag:night", set()),
        ("kind:view", {"staff"}),
        ("kind:INCREMENTAL_*", {"orders"}),
        ("Kind:full", {"revenue"}),
        ("kind:audit", set()),
        ("assert_paid", {"audit"}),
        ("assert_*", {"audit"}),
        ("owner:anna", set()),
    ],
)
def test_a_pattern_means(pattern: str, meant: set[str]) -> None:
    assert {name for name, node in NODES.items() if matches(pattern, node)} == meant


# Which rule counts


def test_without_settings_everything_has_the_defaults() -> None:
    assert policies_of() == dict.fromkeys(NODES, DEFAULT)
    assert DEFAULT.spoken() == []


def test_external_models_have_no_policy() -> None:
    assert RAW.fqn not in policies(AutomationSettings(), MANIFEST)


def test_the_last_rule_that_sets_a_value_counts_value_by_value() -> None:
    found = policies_of(
        models={
            "sales.orders": {"priority": 5, "group": "first"},
            "*": {"priority": 1, "min_gap_seconds": 60},
            "sales.*": {"group": "sales", "schedule": "0 6 * * *"},
        }
    )
    orders, staff = found["orders"], found["staff"]
    assert (orders.priority, orders.group, orders.min_gap) == (1, "sales", timedelta(minutes=1))
    assert orders.schedule == Schedule("0 6 * * *", "UTC")
    assert (staff.priority, staff.group, staff.schedule) == (1, None, None)
    assert orders.origins == {
        "priority": "MODELS *",
        "group": "MODELS sales.*",
        "min_gap_seconds": "MODELS *",
        "schedule": "MODELS sales.*",
    }


def test_retries_are_merged_key_by_key_with_the_settings_and_each_other() -> None:
    found = policies_of(
        retry={"max_attempts": 7, "delay_seconds": 10},
        models={
            "sales.*": {"retry": {"max_attempts": 5, "max_delay_seconds": 20}},
            "sales.orders": {"retry": {"max_attempts": 2}},
        },
    )
    assert dict(found["orders"].retry) == {
        "max_attempts": 2,
        "delay_seconds": 10,
        "max_delay_seconds": 20,
    }
    assert found["revenue"].retry.max_attempts == 5
    assert found["staff"].retry.max_attempts == 7
    assert found["orders"].spoken() == [
        "retry.max_attempts 2 (MODELS sales.orders)",
        "retry.delay_seconds 10 (RETRY__DELAY_SECONDS)",
        "retry.max_delay_seconds 20 (MODELS sales.*)",
    ]


@pytest.mark.parametrize(
    ("everywhere", "rule", "waits", "origin"),
    [
        ("wait", None, True, None),
        ("ignore", None, False, "UPSTREAM"),
        ("ignore", "wait", True, "MODELS hr.staff"),
        ("wait", "ignore", False, "MODELS hr.staff"),
    ],
)
def test_a_rule_about_upstream_wins_over_the_setting(
    everywhere: str, rule: str | None, waits: bool, origin: str | None
) -> None:
    models = {"hr.staff": {"upstream": rule}} if rule else {}
    staff = policies_of(upstream=everywhere, models=models)["staff"]
    assert staff.waits_for_upstream is waits
    assert staff.origins.get("upstream") == origin


def test_a_standalone_audit_takes_rules_by_its_name() -> None:
    found = policies_of(models={"assert_paid": {"paused": True}})
    assert [name for name, policy in found.items() if policy.paused] == ["audit"]


# Schedules


@pytest.mark.parametrize(
    ("mapping", "expected"),
    [
        pytest.param(
            {"@daily": "0 6 * * *"},
            dict.fromkeys(("revenue", "staff", "audit"), "0 6 * * * UTC"),
            id="an alias means its spellings",
        ),
        pytest.param(
            {"0 0 */1 * *": "0 6 * * *"},
            dict.fromkeys(("revenue", "staff", "audit"), "0 6 * * * UTC"),
            id="and one spelling the others",
        ),
        pytest.param(
            {"0 * * * *": "@daily Asia/Kathmandu"},
            {"orders": "@daily Asia/Kathmandu"},
            id="a schedule's own zone",
        ),
        pytest.param(
            {"@daily": "0 6 * * *", "0 0 * * *": "0 7 * * *", "@hourly": "5 * * * *"},
            {
                **dict.fromkeys(("revenue", "staff", "audit"), "0 7 * * * UTC"),
                "orders": "5 * * * * UTC",
            },
            id="of two spellings the last one counts",
        ),
        pytest.param({"@weekly": "off", "0 1 * * *": "@daily"}, {}, id="crons that no model has"),
    ],
)
def test_crons_are_mapped_to_schedules(mapping: dict[str, str], expected: dict[str, str]) -> None:
    found = {
        name: str(policy.schedule)
        for name, policy in policies_of(cron_map=mapping).items()
        if policy.schedule
    }
    assert found == expected


def test_the_origin_of_a_mapped_schedule_is_the_cron_as_it_is_written() -> None:
    staff = policies_of(cron_map={"@daily": "0 5 * * *", "0 0 * * *": "0 6 * * *"})["staff"]
    assert staff.spoken() == ["schedule 0 6 * * * UTC (CRON_MAP 0 0 * * *)"]


def test_a_schedule_without_a_zone_is_read_in_the_default_one() -> None:
    found = policies_of(
        timezone="Europe/Berlin",
        cron_map={"@hourly": "5 * * * *"},
        models={"hr.staff": {"schedule": "0 6 * * *"}, "assert_paid": {"schedule": "@daily UTC"}},
    )
    assert found["orders"].schedule == Schedule("5 * * * *", "Europe/Berlin")
    assert found["staff"].schedule == Schedule("0 6 * * *", "Europe/Berlin")
    assert found["audit"].schedule == Schedule("@daily", "UTC")


def test_a_rule_wins_over_the_cron_map() -> None:
    found = policies_of(cron_map={"@daily": "off"}, models={"sales.*": {"schedule": "0 6 * * *"}})
    assert found["revenue"].schedule == Schedule("0 6 * * *", "UTC")
    assert not found["revenue"].paused
    assert found["staff"].paused


# Pauses


@pytest.mark.parametrize(
    ("settings", "paused", "spoken"),
    [
        pytest.param(
            {"cron_map": {"@daily": "off"}}, True, ["schedule off (CRON_MAP @daily)"], id="mapped"
        ),
        pytest.param(
            {"models": {"hr.*": {"schedule": "OFF"}}},
            True,
            ["schedule off (MODELS hr.*)"],
            id="off in a rule",
        ),
        pytest.param(
            {"models": {"hr.*": {"paused": True}}}, True, ["paused true (MODELS hr.*)"], id="paused"
        ),
        pytest.param(
            {"models": {"*": {"paused": True}, "hr.*": {"paused": False}}},
            False,
            ["paused false (MODELS hr.*)"],
            id="resumed by a later rule",
        ),
        pytest.param(
            {"models": {"hr.*": {"paused": False}, "*": {"paused": True}}},
            True,
            ["paused true (MODELS *)"],
            id="and not by an earlier one",
        ),
        pytest.param(
            {"models": {"*": {"paused": True}, "hr.*": {"schedule": "@daily"}}},
            True,
            ["paused true (MODELS *)", "schedule @daily UTC (MODELS hr.*)"],
            id="a schedule does not resume",
        ),
        pytest.param(
            {"cron_map": {"@daily": "off"}, "models": {"hr.*": {"paused": False}}},
            True,
            ["schedule off (CRON_MAP @daily)"],
            id="what is off stays off, and names what says so",
        ),
    ],
)
def test_a_pause(settings: dict[str, Any], paused: bool, spoken: list[str]) -> None:
    staff = policies_of(**settings)["staff"]
    assert staff.paused is paused
    assert staff.spoken() == spoken


def test_everything_is_spoken_with_its_origin() -> None:
    rule = {"min_gap_seconds": 90, "upstream": "ignore", "priority": -3, "group": "people"}
    rule["max_seconds"] = 1800
    assert policies_of(models={"hr.*": rule})["staff"].spoken() == [
        "min_gap_seconds 90 (MODELS hr.*)",
        "max_seconds 1800 (MODELS hr.*)",
        "upstream ignore (MODELS hr.*)",
        "priority -3 (MODELS hr.*)",
        "group people (MODELS hr.*)",
    ]


# Patterns that match nothing


@pytest.mark.parametrize(
    ("pattern", "near"),
    [
        ("sales.order", "sales.orders"),
        ("orders", "sales.orders"),
        ("SALES.REVENUES", "sales.Revenue"),
        ("assert_payed", "assert_paid"),
        ("tag:nightley", "tag:nightly"),
        ("Tag:Nightley", "tag:nightly"),
        ("kind:veiw", "kind:VIEW"),
        ("raw.events", None),
        ("zzz", None),
        ("tag:zzz", None),
    ],
)
def test_a_pattern_that_matches_nothing_is_an_error(pattern: str, near: str | None) -> None:
    with pytest.raises(SettingsError) as caught:
        policies_of(models={"hr.staff": {"priority": 1}, pattern: {"paused": True}})
    hint = f"Did you mean {near}? " if near else ""
    assert str(caught.value) == (
        f"SQLMESH_AUTOMATION_MODELS[{pattern!r}] matches no model of /srv/shop. {hint}"
        "Accepted: names with * and ?, tag:<tag>, kind:<kind>; "
        "`sqlmesh-automation status` lists the models"
    )


def test_all_such_patterns_are_told_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        policies_of(models={"one.a": {}, "two.b": {}, "sales.*": {}})
    assert len(caught.value.problems) == 2
