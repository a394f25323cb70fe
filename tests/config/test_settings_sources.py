"""The settings that shape the automation from YAML and the environment together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from dagster_sqlmesh_automation.config.errors import SettingsError
from dagster_sqlmesh_automation.config.settings import PREFIX, AutomationSettings


@pytest.fixture
def yaml_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that CONFIG names, empty so far."""
    file = tmp_path / "automation.yaml"
    file.touch()
    monkeypatch.setenv(f"{PREFIX}CONFIG", str(file))
    return file


def as_variable(value: Any) -> str:
    return json.dumps(value) if isinstance(value, dict | list) else str(value)


def plain(value: Any) -> Any:
    """A setting as it is written."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    return value.model_dump(exclude_none=True) if hasattr(value, "model_dump") else value


@pytest.mark.parametrize(
    ("name", "default", "in_yaml", "in_variable", "argument"),
    [
        ("timezone", "UTC", "Europe/Berlin", "Asia/Kathmandu", "America/New_York"),
        ("upstream", "wait", "ignore", "wait", "ignore"),
        ("source", "project", "environment", "project", "environment"),
        ("name", None, "one", "two", "three"),
        ("asset_key_prefix", "", "one", "two", "three/four"),
        ("max_models_per_run", 0, 1, 2, 3),
        ("max_concurrent_executions", 4, 1, 2, 3),
        ("keep_evaluations_days", 30, 1, 2, 3),
        ("auto_upstream", True, False, True, False),
        ("cron_map", {}, {"@daily": "off"}, {"@daily": "@daily"}, {"@daily": "@hourly"}),
    ],
)
def test_an_argument_wins_over_the_environment_that_over_yaml_and_that_over_the_default(
    yaml_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    default: Any,
    in_yaml: Any,
    in_variable: Any,
    argument: Any,
) -> None:
    assert getattr(AutomationSettings(), name) == default
    yaml_file.write_text(yaml.safe_dump({name: in_yaml}))
    assert getattr(AutomationSettings(), name) == in_yaml
    monkeypatch.setenv(f"{PREFIX}{name.upper()}", as_variable(in_variable))
    assert getattr(AutomationSettings(), name) == in_variable
    assert getattr(AutomationSettings(**{name: argument}), name) == argument


def test_maps_of_both_are_merged_key_by_key(
    yaml_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    yaml_file.write_text(
        "cron_map: {'@daily': 'off', '@hourly': 5 * * * *}\n"
        "retry: {max_attempts: 9, delay_seconds: 8}\n"
    )
    monkeypatch.setenv(f"{PREFIX}CRON_MAP", '{"@weekly": "off", "@daily": "0 6 * * *"}')
    monkeypatch.setenv(f"{PREFIX}RETRY", '{"delay_seconds": 7}')
    monkeypatch.setenv(f"{PREFIX}RETRY__MAX_DELAY_SECONDS", "60")
    settings = AutomationSettings()

    assert settings.cron_map == {"@daily": "0 6 * * *", "@hourly": "5 * * * *", "@weekly": "off"}
    assert plain(settings.retry) == {
        "max_attempts": 9,
        "delay_seconds": 7,
        "max_delay_seconds": 60,
    }


def test_rules_of_the_environment_follow_those_of_the_file_and_add_to_the_same_pattern(
    yaml_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    yaml_file.write_text(
        "models:\n  z.*: {priority: 1, retry: {max_attempts: 2}}\n  a.*: {priority: 2}\n"
    )
    monkeypatch.setenv(
        f"{PREFIX}MODELS",
        '{"m.*": {"priority": 3}, "z.*": {"paused": true, "retry": {"delay_seconds": 1}}}',
    )
    models = AutomationSettings().models

    assert list(models) == ["z.*", "a.*", "m.*"]  # the last one that sets a value counts
    assert plain(models["z.*"]) == {
        "priority": 1,
        "paused": True,
        "retry": {"max_attempts": 2, "delay_seconds": 1},
    }


@pytest.mark.parametrize(
    ("content", "variables", "said"),
    [
        pytest.param(
            {"models": {"a.b": {"shedule": "off"}}},
            {"MODELS": '{"c.d": {"priority": 3}}'},
            "models['a.b'].shedule in {file}='off' ",
            id="another rule in the environment",
        ),
        pytest.param(
            {"models": {"a.b": {"priority": "high"}}},
            {"MODELS": '{"a.b": {"group": "x"}}'},
            "models['a.b'].priority in {file}='high' ",
            id="another value of the same rule",
        ),
        pytest.param(
            {"models": {"a.b": {"priority": 1}}},
            {"MODELS": '{"a.b": {"priority": "high"}}'},
            f"{PREFIX}MODELS['a.b'].priority='high' ",
            id="the same value, in the environment",
        ),
        pytest.param(
            {"retry": {"max_attempts": 0}},
            {"RETRY__DELAY_SECONDS": "1"},
            "retry.max_attempts in {file}=0 ",
            id="another part of the retries",
        ),
        pytest.param(
            {"cron_map": {"@dialy": "off"}},
            {"CRON_MAP": '{"@daily": "off"}'},
            "cron_map['@dialy'] in {file}='@dialy' ",
            id="another cron",
        ),
    ],
)
def test_a_mistake_is_told_of_the_source_that_holds_it(
    yaml_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: dict[str, Any],
    variables: dict[str, str],
    said: str,
) -> None:
    yaml_file.write_text(yaml.safe_dump(content))
    for name, value in variables.items():
        monkeypatch.setenv(f"{PREFIX}{name}", value)
    with pytest.raises(SettingsError) as caught:
        AutomationSettings()
    assert str(caught.value).startswith(said.format(file=yaml_file))
