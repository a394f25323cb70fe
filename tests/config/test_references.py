"""Dagster's EnvVar as a setting, or within one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from dagster_sqlmesh_automation.config.errors import SettingsError
from dagster_sqlmesh_automation.config.reference import EXAMPLES
from dagster_sqlmesh_automation.config.rules import ModelRule, RetryRule, RetrySettings
from dagster_sqlmesh_automation.config.settings import PREFIX, AutomationSettings

UNSET = (
    "cannot be used: the environment variable {} is not set. "
    "Set it for the code location and for the processes of its runs."
)


@pytest.mark.parametrize(
    "name", [name for name in EXAMPLES if name != "config" and "__" not in name]
)
def test_an_env_var_means_the_same_as_the_variable_of_the_setting(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("SHOP", EXAMPLES[name])
    settings = AutomationSettings(**{name: dg.EnvVar("SHOP")})
    assert settings != AutomationSettings()

    monkeypatch.setenv(f"{PREFIX}{name.upper()}", EXAMPLES[name])
    assert settings == AutomationSettings()


def test_an_env_var_may_name_the_file_and_the_prefix(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "automation.yaml").write_text("gateway: file")
    monkeypatch.setenv("FILE", str(tmp_path / "automation.yaml"))
    monkeypatch.setenv("OUR_PREFIX", "FINANCE_")
    monkeypatch.setenv("FINANCE_ENVIRONMENT", "dev")
    settings = AutomationSettings(_env_prefix=dg.EnvVar("OUR_PREFIX"), config=dg.EnvVar("FILE"))
    assert (settings.gateway, settings.environment) == ("file", "dev")


def test_env_vars_may_stand_within_maps_and_as_their_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"AT": "0 6 * * *", "WHICH": "sales.*", "N": "7", "OFF": "true"}.items():
        monkeypatch.setenv(name, value)
    settings = AutomationSettings(
        interval_seconds=dg.EnvVar.int("N"),
        cron_map={"@daily": dg.EnvVar("AT")},
        retry={"max_attempts": dg.EnvVar.int("N")},
        models={
            dg.EnvVar("WHICH"): {
                "paused": dg.EnvVar("OFF"),
                "retry": {"delay_seconds": dg.EnvVar("N")},
            }
        },
    )
    assert settings.interval_seconds == settings.retry.max_attempts == 7
    assert settings.cron_map == {"@daily": "0 6 * * *"}
    assert settings.models["sales.*"].values() == {"paused": True, "retry": {"delay_seconds": 7}}


def test_env_vars_may_stand_in_rules_that_python_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("N", "7")
    monkeypatch.setenv("GROUP", "finance")
    rule = ModelRule(group=dg.EnvVar("GROUP"), retry=RetryRule(delay_seconds=dg.EnvVar.int("N")))
    assert rule.values() == {"group": "finance", "retry": {"delay_seconds": 7}}
    assert RetrySettings(delay_seconds=dg.EnvVar.int("N")).delay_seconds == 7
    with pytest.raises(ValueError, match=re.escape("delay_seconds=dg.EnvVar.int('NONE') ")):
        RetrySettings(delay_seconds=dg.EnvVar.int("NONE"))


def test_all_env_vars_that_are_not_set_are_named_with_their_place() -> None:
    with pytest.raises(SettingsError) as caught:
        AutomationSettings(
            environment=dg.EnvVar("SHOP_ENV"),
            gateway=dg.EnvVar("SHOP_GATEWAY"),
            retry={"max_attempts": dg.EnvVar.int("ATTEMPTS")},
            models={"sales.*": {"group": dg.EnvVar("TEAM")}},
        )
    assert caught.value.problems == [
        "environment=dg.EnvVar('SHOP_ENV') " + UNSET.format("SHOP_ENV"),
        "gateway=dg.EnvVar('SHOP_GATEWAY') " + UNSET.format("SHOP_GATEWAY"),
        "retry.max_attempts=dg.EnvVar.int('ATTEMPTS') " + UNSET.format("ATTEMPTS"),
        "models['sales.*'].group=dg.EnvVar('TEAM') " + UNSET.format("TEAM"),
    ]


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        pytest.param(
            "timezone",
            dg.EnvVar("BAD"),
            "timezone=dg.EnvVar('BAD')='x y' cannot be used. Accepted: ",
            id="text",
        ),
        pytest.param(
            "interval_seconds",
            dg.EnvVar.int("BAD"),
            "interval_seconds=dg.EnvVar.int('BAD')='x y' cannot be used. Accepted: ",
            id="number",
        ),
        pytest.param(
            "models",
            dg.EnvVar("BAD"),
            "models=dg.EnvVar('BAD')='x y' is not JSON: ",
            id="object",
        ),
        pytest.param(
            "cron_map",
            {"@daily": dg.EnvVar("BAD")},
            "cron_map['@daily']=dg.EnvVar('BAD')='x y' cannot be used. Accepted: ",
            id="value in a map",
        ),
        pytest.param(
            "cron_map",
            {dg.EnvVar("BAD"): "off"},
            "cron_map['x y']=dg.EnvVar('BAD')='x y' cannot be used. Accepted: ",
            id="key of a map",
        ),
    ],
)
def test_a_value_that_cannot_be_used_is_named_with_the_env_var_that_holds_it(
    monkeypatch: pytest.MonkeyPatch, name: str, value: Any, problem: str
) -> None:
    monkeypatch.setenv("BAD", "x y")
    with pytest.raises(SettingsError) as caught:
        AutomationSettings(**{name: value})
    assert str(caught.value).startswith(problem)
