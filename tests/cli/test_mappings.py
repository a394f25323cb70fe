"""Schedules of ``CRON_MAP`` and ``MODELS`` that mislead, and those that do not."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from dagster_sqlmesh_automation.assets.definitions.policy import policies
from dagster_sqlmesh_automation.assets.project.manifest import Manifest, ManifestModel
from dagster_sqlmesh_automation.automation.cli.mappings import misleading
from dagster_sqlmesh_automation.config.cron import split_schedule
from dagster_sqlmesh_automation.config.settings import AutomationSettings

_MODEL = ManifestModel(
    fqn="", name="", kind="FULL", catalog=None, schema="shop", table="", cron="", cron_tz=None,
    depends_on=(), source="sql", dialect="duckdb", description=None, owner=None, tags=(),
    signals=(), code_version=None, metadata_hash=None, path=None, audits=(),
)  # fmt: skip


def warnings(crons: dict[str, str], **settings: Any) -> list[str]:
    """What misleads where models have these crons, each with its zone behind it or UTC."""
    models = []
    for name, text in crons.items():
        cron, zone = split_schedule(text)
        models.append(
            dataclasses.replace(
                _MODEL, fqn=f'"{name}"', name=f"shop.{name}", cron=cron, cron_tz=zone
            )
        )
    manifest = Manifest("", "main", "duckdb", "duckdb", tuple(models), (), None)
    parsed = AutomationSettings(**settings)
    return misleading(parsed, manifest, policies(parsed, manifest))


@pytest.mark.parametrize(
    ("cron", "schedule", "expected"),
    [
        pytest.param("@daily", "0 6 * * *", "", id="the same day, in the morning"),
        pytest.param("@daily", "0 6 * * 1-5 Europe/Berlin", "", id="mornings of weekdays"),
        pytest.param("@daily", "0 6 * * 1", "", id="once a week, all of it"),
        pytest.param("@daily", "0 1,13 * * *", "", id="twice a day, one of them in vain"),
        pytest.param("@hourly", "5 * * * *", "", id="five past"),
        pytest.param("@hourly", "0 8-18 * * 1-5 Europe/Berlin", "", id="hours of work"),
        pytest.param("*/5 * * * *", "@daily", "", id="a day's worth at once"),
        pytest.param("@monthly", "0 6 2 * *", "", id="the second of the month"),
        pytest.param("@daily Europe/Berlin", "5 0 * * * Europe/Berlin", "", id="in the same zone"),
        pytest.param("@daily Asia/Tokyo", "0 0 * * * UTC", "", id="after the tick, in a zone west"),
        pytest.param("@weekly", "0 0 29 2 *", "", id="once in four years"),
        pytest.param("@daily", "@hourly", "fires more often than the models' cron", id="hourly"),
        pytest.param("@monthly", "0 6 * * *", "fires more often than", id="a daily look"),
        pytest.param("@hourly", "*/5 * * * *", "fires more often than", id="every five minutes"),
        pytest.param("@daily", "0 23 * * *", "at least 23 hours after SQLMesh", id="late evening"),
        pytest.param("@daily", "0 23 * * 1-5", "at least 23 hours after", id="on weekdays"),
        pytest.param("@hourly", "55 * * * *", "at least 55 minutes after", id="before the hour"),
        pytest.param("@weekly", "0 0 * * 6", "at least 6 days after SQLMesh", id="the day before"),
        pytest.param(
            "@daily",
            "0 0 * * * Europe/Berlin",
            "in Europe/Berlin it fires shortly before SQLMesh's tick (@daily UTC), so every "
            "interval is requested at least 22 hours after",
            id="midnight comes earlier in the schedule's zone",
        ),
        pytest.param(
            "@daily America/New_York",
            "0 2 * * * UTC",
            "Set the models' cron_tz to UTC",
            id="and later in the cron's",
        ),
    ],
)
def test_a_mapping_is_warned_of_where_it_misleads(cron: str, schedule: str, expected: str) -> None:
    sentences = warnings({"orders": cron}, cron_map={split_schedule(cron)[0]: schedule})
    if not expected:
        assert sentences == []
        return
    (text,) = sentences
    assert expected in text
    assert f"-> {schedule.removesuffix(' UTC')}" in text


def test_a_zone_of_the_settings_counts_like_one_of_the_schedule() -> None:
    (text,) = warnings({"a": "@daily"}, cron_map={"@daily": "0 0 * * *"}, timezone="Europe/Berlin")
    assert "in Europe/Berlin it fires shortly before" in text


def test_models_with_one_cron_and_schedule_are_told_together_and_by_the_rule() -> None:
    (text,) = warnings(
        {"a": "@daily", "b": "@daily", "c": "@hourly"}, models={"shop.?": {"schedule": "@hourly"}}
    )
    assert text.startswith("MODELS shop.? -> @hourly UTC (2 models): it fires more often")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        pytest.param(
            {"cron_map": {"@weekly": "off", "0 0 * * *": "0 6 * * *"}},
            "CRON_MAP @weekly -> off is not used: no model has this cron; the models' crons: "
            "@daily, @hourly",
            id="no model has the cron",
        ),
        pytest.param(
            {"cron_map": {"@daily": "off", "0 0 * * *": "0 6 * * *"}},
            "CRON_MAP @daily -> off is not used: '0 0 * * *' is the same cron",
            id="the same cron twice",
        ),
        pytest.param(
            {"cron_map": {"@daily": "off"}, "models": {"shop.a": {"schedule": "0 6 * * *"}}},
            "CRON_MAP @daily -> off is not used: rules of MODELS",
            id="rules win",
        ),
        pytest.param(
            {"models": {"shop.a": {"schedule": "off"}, "kind:*": {"schedule": "5 * * * *"}}},
            "MODELS shop.a: schedule off is not used: later rules",
            id="a later rule wins",
        ),
    ],
)
def test_what_no_model_goes_by_is_named(settings: dict[str, Any], expected: str) -> None:
    sentences = warnings({"a": "@daily", "b": "@hourly"}, **settings)
    assert [text for text in sentences if expected in text], sentences


def test_without_a_mapping_there_is_nothing_to_warn_of() -> None:
    assert warnings({"a": "@daily", "b": "@hourly"}) == []
