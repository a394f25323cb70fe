"""The settings: where they come from, which source wins, and what is accepted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dagster_sqlmesh_automation.config.errors import SettingsError
from dagster_sqlmesh_automation.config.settings import PREFIX, AutomationSettings


@pytest.fixture
def yaml_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that CONFIG names, empty so far."""
    file = tmp_path / "automation.yaml"
    file.touch()
    monkeypatch.setenv(f"{PREFIX}CONFIG", str(file))
    return file


def test_without_any_source_the_defaults_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = AutomationSettings()

    assert settings.project == tmp_path
    assert settings.gateway is None
    assert settings.environment == "prod"
    assert settings.enabled is False
    assert settings.interval_seconds == 30
    assert settings.manifest is None


@pytest.mark.parametrize(
    ("name", "default", "yaml", "environment", "argument"),
    [
        ("environment", "prod", "from_yaml", "from_env", "from_argument"),
        ("interval_seconds", 30, 31, 32, 33),
        ("gateway", None, "yaml", "env", "argument"),
        ("enabled", False, True, False, True),
        ("lease_timeout_seconds", 3600, 1, 2, 3),
    ],
)
def test_an_argument_wins_over_the_environment_that_over_yaml_and_that_over_the_default(
    yaml_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    default: Any,
    yaml: Any,
    environment: Any,
    argument: Any,
) -> None:
    def value(**arguments: Any) -> Any:
        return getattr(AutomationSettings(**arguments), name)

    assert value() == default
    yaml_file.write_text(f"{name}: {yaml}\n")
    assert value() == yaml
    monkeypatch.setenv(f"{PREFIX}{name.upper()}", str(environment))
    assert value() == environment
    assert value(**{name: argument}) == argument


def test_sources_are_mixed_setting_by_setting(
    yaml_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    yaml_file.write_text("environment: dev\ninterval_seconds: 60\ngateway: yaml\n")
    monkeypatch.setenv(f"{PREFIX}INTERVAL_SECONDS", "90")
    settings = AutomationSettings(gateway="argument")

    assert settings.environment == "dev"
    assert settings.interval_seconds == 90
    assert settings.gateway == "argument"


def test_config_can_be_an_argument_and_wins_over_the_variable(
    tmp_path: Path, yaml_file: Path
) -> None:
    yaml_file.write_text("environment: from_variable\n")
    other = tmp_path / "other.yaml"
    other.write_text("environment: from_argument\n")

    assert AutomationSettings().environment == "from_variable"
    assert AutomationSettings(config=other).environment == "from_argument"


def test_an_empty_yaml_file_sets_nothing(yaml_file: Path) -> None:
    assert AutomationSettings().environment == "prod"


def test_another_prefix_reads_other_variables_for_a_second_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(f"{PREFIX}ENVIRONMENT", "prod")
    monkeypatch.setenv("STAGING_ENVIRONMENT", "staging")

    assert AutomationSettings().environment == "prod"
    assert AutomationSettings(_env_prefix="STAGING_").environment == "staging"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("STAGING_ENVIRONMNT", "x"),
        ("STAGING_INTERVAL_SECONDS", "soon"),
        ("STAGING_CONFIG", "/nowhere.yaml"),
    ],
)
def test_errors_name_the_variable_with_the_prefix_in_use(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    AutomationSettings()  # not a variable of the other prefix
    with pytest.raises(SettingsError, match=variable):
        AutomationSettings(_env_prefix="STAGING_")


def test_settings_are_named_after_their_environment_and_do_not_change() -> None:
    settings = AutomationSettings(environment="dev")

    assert settings.id == "sqlmesh_dev"
    with pytest.raises(ValueError, match="frozen"):
        settings.environment = "prod"  # type: ignore[misc]


@pytest.mark.parametrize("name", AutomationSettings.model_fields)
def test_every_setting_explains_itself(name: str) -> None:
    description = AutomationSettings.model_fields[name].description
    assert description
    assert description.endswith(".")


# PROJECT


@pytest.mark.parametrize("source", ["argument", "environment", "yaml"])
def test_a_relative_project_becomes_absolute_whatever_it_comes_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, yaml_file: Path, source: str
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments: dict[str, Any] = {"project": "analytics"} if source == "argument" else {}
    if source == "environment":
        monkeypatch.setenv(f"{PREFIX}PROJECT", "analytics")
    if source == "yaml":
        yaml_file.write_text("project: analytics\n")
    settings = AutomationSettings(**arguments)
    monkeypatch.chdir("/")

    assert settings.project == tmp_path / "analytics"


def test_a_project_below_home_and_an_absolute_one_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert AutomationSettings(project="~/analytics").project == tmp_path / "analytics"
    assert AutomationSettings(project="/srv/analytics").project == Path("/srv/analytics")


def test_a_relative_manifest_becomes_absolute_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert AutomationSettings(manifest="cache/m.json").manifest == tmp_path / "cache" / "m.json"


# ENVIRONMENT


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("prod", "prod"),
        ("PROD", "prod"),
        (" dev_anna ", "dev_anna"),
        ("Dev1", "dev1"),
        ("2026", "2026"),
    ],
)
def test_an_environment_name_is_written_as_sqlmesh_writes_it(given: str, name: str) -> None:
    assert AutomationSettings(environment=given).environment == name


@pytest.mark.parametrize("given", ["", " ", "dev-anna", "dev anna", "dev.anna", "dev/anna", "*"])
def test_an_environment_name_that_sqlmesh_would_change_is_refused(given: str) -> None:
    with pytest.raises(SettingsError) as caught:
        AutomationSettings(environment=given)
    assert str(caught.value) == (
        f"{PREFIX}ENVIRONMENT={given!r} cannot be used. "
        "Accepted: letters from a to z, digits and underscores, at most 55, "
        "such as prod or dev_anna"
    )


# ENABLED


@pytest.mark.parametrize(
    ("written", "enabled"),
    [
        *((written, True) for written in ("true", "True", "1", "yes", "on")),
        *((written, False) for written in ("false", "FALSE", "0", "no", "off")),
    ],
)
def test_enabled_is_read_as_people_write_it(
    monkeypatch: pytest.MonkeyPatch, written: str, enabled: bool
) -> None:
    monkeypatch.setenv(f"{PREFIX}ENABLED", written)
    assert AutomationSettings().enabled is enabled


# INTERVAL_SECONDS


@pytest.mark.parametrize("seconds", ["1", "30", "86400"])
def test_an_interval_from_a_second_to_a_day_is_accepted(
    monkeypatch: pytest.MonkeyPatch, seconds: str
) -> None:
    monkeypatch.setenv(f"{PREFIX}INTERVAL_SECONDS", seconds)
    assert AutomationSettings().interval_seconds == int(seconds)


# Mistakes


@pytest.mark.parametrize(
    ("name", "value", "accepted"),
    [
        *(("INTERVAL_SECONDS", value, "integer") for value in ("soon", "1.5", "1m", "")),
        *(("INTERVAL_SECONDS", value, "greater than or equal to 1") for value in ("0", "-1")),
        ("INTERVAL_SECONDS", "86401", "less than or equal to 86400"),
        ("LEASE_TIMEOUT_SECONDS", "-1", "greater than or equal to 0"),
        *(("ENABLED", value, "boolean") for value in ("maybe", "2", "")),
        ("ENVIRONMENT", "dev-anna", "letters from a to z, digits and underscores"),
        ("CONFIG", "/nowhere/automation.yaml", "no such file"),
    ],
)
def test_a_malformed_variable_is_named_with_its_value_and_what_is_accepted(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, accepted: str
) -> None:
    monkeypatch.setenv(f"{PREFIX}{name}", value)
    with pytest.raises(SettingsError) as caught:
        AutomationSettings()
    (problem,) = caught.value.problems
    assert problem.startswith((f"{PREFIX}{name}={value!r} ", f"{PREFIX}{name}={value}: "))
    assert accepted in problem


def test_all_malformed_variables_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{PREFIX}ENABLED", "maybe")
    monkeypatch.setenv(f"{PREFIX}INTERVAL_SECONDS", "soon")
    with pytest.raises(SettingsError) as caught:
        AutomationSettings()
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize(
    ("variable", "near"),
    [
        ("PROJCT", "PROJECT"),
        ("INTERVAL_SECOND", "INTERVAL_SECONDS"),
        ("INTERVAL_SECONDS__MINIMUM", "INTERVAL_SECONDS"),
    ],
)
def test_an_unknown_variable_is_named_with_the_nearest_that_exists(
    monkeypatch: pytest.MonkeyPatch, variable: str, near: str
) -> None:
    monkeypatch.setenv(f"{PREFIX}{variable}", "1")
    with pytest.raises(SettingsError, match=f"{PREFIX}{variable} .*Did you mean {PREFIX}{near}[?]"):
        AutomationSettings()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("interval_seconds: [1\n", "is not YAML", id="not YAML"),
        pytest.param("- interval_seconds\n", "", id="a list"),
        pytest.param("just a sentence\n", "", id="a sentence"),
        pytest.param("intervall_seconds: 1\n", "Did you mean interval_seconds?", id="unknown key"),
        pytest.param("config: other.yaml\n", "config", id="a file that names a file"),
        pytest.param("interval_seconds: soon\n", "'soon'", id="a bad value"),
    ],
)
def test_a_yaml_file_with_a_mistake_is_named(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "automation.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        AutomationSettings(config=file)
    assert str(file) in str(caught.value)
    assert said in str(caught.value)
