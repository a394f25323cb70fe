"""The reference of settings: up to date, complete, and true of what it shows."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.projects import ROOT

from dagster_sqlmesh_automation.config import reference
from dagster_sqlmesh_automation.config.cron import canonical
from dagster_sqlmesh_automation.config.origins import origins
from dagster_sqlmesh_automation.config.rules import ModelRule
from dagster_sqlmesh_automation.config.settings import PREFIX, AutomationSettings


def rows(text: str) -> dict[str, list[str]]:
    """The cells of every row of the tables, by the first."""
    cells = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| `")]
    return {first.strip("`"): rest for first, *rest in cells}


def test_the_file_is_what_the_settings_classes_say() -> None:
    kept = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert kept == reference.reference(), "run `make docs-settings`"


def test_every_variable_that_is_read_has_a_row_with_type_default_description_and_example() -> None:
    found = rows(reference.reference())
    parts = ("MAX_ATTEMPTS", "DELAY_SECONDS", "MAX_DELAY_SECONDS")
    names = [*map(str.upper, AutomationSettings.model_fields), *(f"RETRY__{p}" for p in parts)]
    assert {*found} == {f"{PREFIX}{name}" for name in names} | {*ModelRule.model_fields}
    for name, cells in found.items():
        assert len(cells) == 4, name
        assert all(cells), name


@pytest.mark.parametrize(
    ("name", "kind", "default"),
    [
        ("ENABLED", "`true` or `false`", "`false`"),
        ("INTERVAL_SECONDS", "whole number, at least 1, at most 86400", "`30`"),
        ("PROJECT", "path, or JSON list of paths", "the working directory"),
        ("GATEWAY", "text", "not set"),
        ("CANCEL_GRACE_SECONDS", "whole number, at least 0, at most 604800", "not set"),
        ("CRON_MAP", "JSON object", "`{}`"),
        ("MODELS", "JSON object", "`{}`"),
        ("UPSTREAM", "`wait` or `ignore`", "`wait`"),
        ("RETRY__MAX_ATTEMPTS", "whole number, at least 1, at most 100", "`3`"),
    ],
)
def test_types_and_defaults_are_in_words(name: str, kind: str, default: str) -> None:
    assert rows(reference.reference())[f"{PREFIX}{name}"][:2] == [kind, default]


@pytest.mark.parametrize("name", [name for name in reference.EXAMPLES if name != "config"])
def test_every_example_is_accepted_and_is_not_the_default(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = AutomationSettings()
    monkeypatch.setenv(f"{PREFIX}{name.upper()}", reference.EXAMPLES[name])
    field = name.partition("__")[0]
    assert getattr(AutomationSettings(), field) != getattr(plain, field)


def test_every_example_of_a_rule_is_accepted() -> None:
    assert ModelRule(**reference.RULE_EXAMPLES).values() == reference.RULE_EXAMPLES
    assert {*reference.RULE_EXAMPLES} == {*ModelRule.model_fields}


@pytest.fixture
def merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AutomationSettings:
    """The example of the reference, as a file and variables."""
    file = tmp_path / "automation.yaml"
    file.write_text(reference.MERGED)
    for variable, value in {**reference.MERGED_VARIABLES, f"{PREFIX}CONFIG": str(file)}.items():
        monkeypatch.setenv(variable, value)
    return AutomationSettings(environment="dev")


def test_the_file_and_the_environment_are_merged_as_the_reference_says(
    merged: AutomationSettings,
) -> None:
    assert merged.cron_map == {"@daily": "0 6 * * 1-5", "@hourly": "off"}
    assert [(name, rule.values()) for name, rule in merged.models.items()] == [
        ("finance.*", {"priority": 20, "retry": {"max_attempts": 5}}),
        ("finance.orders", {"paused": True}),
    ]
    assert merged.retry.max_attempts == 2
    assert merged.timezone == "Europe/Berlin"
    assert canonical("@daily") == canonical("0 0 * * *")


def test_every_setting_in_use_is_told_with_where_it_comes_from(
    merged: AutomationSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"{PREFIX}ENVIRONMENT", "staging")
    monkeypatch.setenv(f"{PREFIX}TIMEZONE", "UTC")
    assert origins(merged, ["environment"]) == {
        "environment": "argument",
        "timezone": f"{PREFIX}TIMEZONE",
        "cron_map": f"{PREFIX}CRON_MAP over {merged.config}",
        "models": f"{PREFIX}MODELS over {merged.config}",
        "retry": f"{PREFIX}RETRY__MAX_ATTEMPTS",
        "config": f"{PREFIX}CONFIG",
    }


def test_defaults_come_from_nowhere() -> None:
    assert origins(AutomationSettings()) == {}
