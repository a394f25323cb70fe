"""The settings that shape the automation: what is accepted, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from dagster_sqlmesh_automation.config.errors import SettingsError
from dagster_sqlmesh_automation.config.settings import PREFIX, AutomationSettings

SCHEDULE = (
    "five cron fields or an alias, and a time zone where it has its own, such as "
    "'0 6 * * 1-5 Europe/Berlin' or '@hourly', or 'off'"
)
CRON = "five cron fields or an alias, such as '0 6 * * 1-5' or '@hourly'"
NO_ZONE = "the IANA name of a time zone, such as Europe/Berlin or UTC; 'Berlin' is none"
NO_DAY = "a cron expression with a day that exists; '0 0 30 2 *' has none"
A_MAP = 'a mapping such as {"@daily": "0 6 * * 1-5 Europe/Berlin", "@weekly": "off"}'
RULES = 'a mapping such as {"sales.*": {"schedule": "0 6 * * *"}}'
A_RULE = 'a mapping such as {"schedule": "0 6 * * *"}'
A_RETRY = 'a mapping such as {"max_attempts": 5}'
A_BOOLEAN = "Input should be a valid boolean, unable to interpret input"
A_YEAR = "Input should be less than or equal to 31536000"
UPSTREAMS = "Input should be 'wait' or 'ignore'"
AT_LEAST = "Input should be greater than or equal to"
PATTERN = "String should match pattern"
KEY = "^([A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*)?$"
RULE_KEYS = "schedule, paused, retry, min_gap_seconds, max_seconds, upstream, priority, group"
RETRY_KEYS = "max_attempts, delay_seconds, max_delay_seconds"


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


ACCEPTED = [
    ("CRON_MAP", {"@daily": "0 6 * * 1-5 Europe/Berlin", "@weekly": "off", "0 * * * *": "@daily"}),
    ("CRON_MAP", {}),
    ("MODELS", {"sales.*": {}, "tag:x": {"paused": False}, "kind:VIEW": {"schedule": "OFF"}}),
    ("MODELS", {"*": {"retry": {"max_attempts": 1}, "min_gap_seconds": 0, "priority": -1}}),
    ("MODELS", {"*": {"upstream": "ignore", "group": "Sales_1", "schedule": "@daily UTC"}}),
    ("MODELS", {"*": {"max_seconds": 1}, "sales.*": {"max_seconds": 31_536_000}}),
    ("RETRY", {"max_attempts": 100, "delay_seconds": 0, "max_delay_seconds": 604_800}),
    ("TIMEZONE", "Australia/Lord_Howe"),
    ("UPSTREAM", "ignore"),
    ("SOURCE", "environment"),
    ("NAME", "shop_1"),
    ("ASSET_KEY_PREFIX", "finance/dev-1"),
    ("ASSET_KEY_PREFIX", ""),
    ("MAX_MODELS_PER_RUN", 0),
    ("MAX_MODELS_PER_RUN", 5000),
    ("MAX_CONCURRENT_EXECUTIONS", 64),
    ("CANCEL_GRACE_SECONDS", 0),
    ("KEEP_EVALUATIONS_DAYS", 1),
    ("AUTO_UPSTREAM", False),
]


@pytest.mark.parametrize(("name", "value"), ACCEPTED, ids=str)
def test_a_value_is_accepted_from_a_variable_and_from_yaml(
    yaml_file: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: Any
) -> None:
    yaml_file.write_text(yaml.safe_dump({name.lower(): value}))
    assert plain(getattr(AutomationSettings(), name.lower())) == value
    yaml_file.write_text("")
    monkeypatch.setenv(f"{PREFIX}{name}", as_variable(value))
    assert plain(getattr(AutomationSettings(), name.lower())) == value


REFUSED = [
    ("CRON_MAP", {"@daily": "0 6 * *"}, "['@daily']='0 6 * *'", SCHEDULE),
    ("CRON_MAP", {"@daily": "@daily Berlin"}, "['@daily']='@daily Berlin'", NO_ZONE),
    ("CRON_MAP", {"@daily": "0 0 30 2 *"}, "['@daily']='0 0 30 2 *'", NO_DAY),
    ("CRON_MAP", {"@dialy": "@daily"}, "['@dialy']='@dialy'", CRON),
    ("CRON_MAP", {"0 6 * * * UTC": "@daily"}, "['0 6 * * * UTC']='0 6 * * * UTC'", CRON),
    ("CRON_MAP", {"off": "@daily"}, "['off']='off'", CRON),
    ("CRON_MAP", ["@daily"], "=['@daily']", A_MAP),
    ("MODELS", {"a.b": {"shedule": "off"}}, "['a.b'].shedule='off'", RULE_KEYS),
    ("MODELS", {"a.b": {"schedule": "noon"}}, "['a.b'].schedule='noon'", SCHEDULE),
    ("MODELS", {"a.b": "off"}, "['a.b']='off'", A_RULE),
    ("MODELS", ["a.b"], "=['a.b']", RULES),
    ("MODELS", {"a.b": {"retry": {"attempts": 3}}}, "['a.b'].retry.attempts=3", RETRY_KEYS),
    ("MODELS", {"a.b": {"retry": 3}}, "['a.b'].retry=3", A_RETRY),
    (
        "MODELS",
        {"a.b": {"retry": {"max_attempts": 0}}},
        "['a.b'].retry.max_attempts=0",
        f"{AT_LEAST} 1",
    ),
    ("MODELS", {"a.b": {"paused": "maybe"}}, "['a.b'].paused='maybe'", A_BOOLEAN),
    ("MODELS", {"a.b": {"upstream": "skip"}}, "['a.b'].upstream='skip'", UPSTREAMS),
    ("MODELS", {"a.b": {"group": "a b"}}, "['a.b'].group='a b'", f"{PATTERN} '^[A-Za-z0-9_]+$'"),
    (
        "MODELS",
        {"a.b": {"min_gap_seconds": 31_536_001}},
        "['a.b'].min_gap_seconds=31536001",
        A_YEAR,
    ),
    ("MODELS", {"a.b": {"max_seconds": 0}}, "['a.b'].max_seconds=0", f"{AT_LEAST} 1"),
    (
        "MODELS",
        {"a.b": {"max_seconds": 1.5}},
        "['a.b'].max_seconds=1.5",
        "Input should be a valid integer, got a number with a fractional part",
    ),
    ("RETRY", {"attempts": 3}, "__ATTEMPTS=3", RETRY_KEYS),
    ("RETRY", 3, "=3", A_RETRY),
    ("RETRY", {"delay_seconds": -1}, "__DELAY_SECONDS=-1", f"{AT_LEAST} 0"),
    ("TIMEZONE", "Berlin", "='Berlin'", NO_ZONE),
    ("UPSTREAM", "skip", "='skip'", UPSTREAMS),
    ("SOURCE", "files", "='files'", "Input should be 'project' or 'environment'"),
    ("NAME", "My-Shop", "='My-Shop'", f"{PATTERN} '^[a-z0-9_]+$'"),
    ("ASSET_KEY_PREFIX", "a//b", "='a//b'", f"{PATTERN} {KEY!r}"),
]


@pytest.mark.parametrize(("name", "value", "shown", "accepted"), REFUSED)
def test_a_value_is_refused_by_name_with_what_is_accepted(
    yaml_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: Any,
    shown: str,
    accepted: str,
) -> None:
    monkeypatch.setenv(f"{PREFIX}{name}", as_variable(value))
    with pytest.raises(SettingsError) as caught:
        AutomationSettings()
    assert str(caught.value) == f"{PREFIX}{name}{shown} cannot be used. Accepted: {accepted}"

    monkeypatch.delenv(f"{PREFIX}{name}")
    yaml_file.write_text(yaml.safe_dump({name.lower(): value}))
    with pytest.raises(SettingsError) as caught:
        AutomationSettings()
    path, _, what = shown.rpartition("=")
    key = name.lower() + (path.replace("__", ".").lower() if name == "RETRY" else path)
    assert str(caught.value) == f"{key} in {yaml_file}={what} cannot be used. Accepted: {accepted}"


@pytest.mark.parametrize(
    ("name", "value", "accepted"),
    [
        ("MAX_MODELS_PER_RUN", "-1", "greater than or equal to 0"),
        ("MAX_MODELS_PER_RUN", "all", "valid integer"),
        ("MAX_CONCURRENT_EXECUTIONS", "0", "greater than or equal to 1"),
        ("MAX_CONCURRENT_EXECUTIONS", "65", "less than or equal to 64"),
        ("CANCEL_GRACE_SECONDS", "-1", "greater than or equal to 0"),
        ("CANCEL_GRACE_SECONDS", "604801", "less than or equal to 604800"),
        ("CANCEL_GRACE_SECONDS", "soon", "valid integer"),
        ("KEEP_EVALUATIONS_DAYS", "0", "greater than or equal to 1"),
        ("KEEP_EVALUATIONS_DAYS", "36501", "less than or equal to 36500"),
        ("RETRY__MAX_ATTEMPTS", "0", "greater than or equal to 1"),
        ("RETRY__MAX_ATTEMPTS", "101", "less than or equal to 100"),
        ("RETRY__MAX_ATTEMPTS", "often", "valid integer"),
        ("RETRY__DELAY_SECONDS", "86401", "less than or equal to 86400"),
        ("RETRY__MAX_DELAY_SECONDS", "604801", "less than or equal to 604800"),
    ],
)
def test_a_number_out_of_range_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, accepted: str
) -> None:
    monkeypatch.setenv(f"{PREFIX}{name}", value)
    with pytest.raises(SettingsError) as caught:
        AutomationSettings()
    assert str(caught.value).startswith(f"{PREFIX}{name}={value!r} cannot be used. ")
    assert accepted in str(caught.value)


@pytest.mark.parametrize("name", ["CRON_MAP", "MODELS", "RETRY"])
@pytest.mark.parametrize("value", ["", "@daily: off", "{'@daily': 'off'}"])
def test_a_map_in_a_variable_is_json(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"{PREFIX}{name}", value)
    with pytest.raises(SettingsError) as caught:
        AutomationSettings()
    assert str(caught.value).startswith(f"{PREFIX}{name}={value!r} is not JSON: ")


@pytest.mark.parametrize(
    ("variable", "near"),
    [
        ("RETRY__ATTEMPTS", "RETRY__MAX_ATTEMPTS"),
        ("RETRY__DELAY", "RETRY__DELAY_SECONDS"),
        ("CRON_MAP__DAILY", "CRON_MAP"),
        ("MODELS__X", "MODELS"),
        ("MAX_MODELS", "MODELS"),
    ],
)
def test_a_part_that_does_not_exist_is_named_with_the_nearest(
    monkeypatch: pytest.MonkeyPatch, variable: str, near: str
) -> None:
    monkeypatch.setenv(f"{PREFIX}{variable}", "1")
    with pytest.raises(SettingsError, match=f"{PREFIX}{variable} .*Did you mean {PREFIX}{near}[?]"):
        AutomationSettings()


def test_off_needs_no_quotes_in_yaml(yaml_file: Path) -> None:
    yaml_file.write_text(
        "cron_map:\n  '@daily': off\nmodels:\n  a.b: {schedule: off}\n  c.d: {schedule: OFF}\n"
    )
    settings = AutomationSettings()
    assert settings.cron_map == {"@daily": "off"}
    assert [rule.schedule for rule in settings.models.values()] == ["off", "off"]
