"""Every setting with any value: it is accepted, or refused by one error; never anything else."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings, strategies as st

from dagster_sqlmesh_automation.config.errors import SettingsError
from dagster_sqlmesh_automation.config.settings import PREFIX, AutomationSettings

NAMES = sorted(set(AutomationSettings.model_fields) - {"config"})

NESTED = ["[" * 1000 + "]" * 1000, '{"a":' * 1000 + "1" + "}" * 1000]
WORDS = st.sampled_from(
    [
        *("", " ", "0", "-1", "1e400", "nan", "9" * 31, "9" * 5000, "true", "off", "null", "[]"),
        *("prod", "dev_ünder", "d" * 300, "*", "[", "{", '{"@daily": 1}', *NESTED),
        *("~", "~nosuchuser/x", "/" + "p" * 5000, "/proc/self/mem", "a/../b"),
        *("{schema}/{name}", "{0}", "{schema!r}", "0 0 29 2 1#5", "@daily", "Europe"),
    ]
)
SCALARS = st.one_of(
    WORDS,
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20),
    st.integers(),
    st.floats(),
    st.booleans(),
    st.none(),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["*", "@daily", "retry", "schedule", "max_attempts"])
            | st.text(max_size=5),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)
FREQUENT = settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value}
    return value


def accepted_or_refused(make: Callable[[], AutomationSettings]) -> None:
    problems = []
    try:
        environment = make()
    except SettingsError as error:
        problems = error.problems
        readable = bool(problems) and all(len(problem) < 3000 for problem in problems)
    else:
        readable = environment.id.isascii() and len(environment.id) <= 63
    assert readable, problems


@FREQUENT
@given(name=st.sampled_from(NAMES), text=st.one_of(WORDS, SCALARS.map(str), VALUES.map(repr)))
def test_a_variable_is_accepted_or_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> None:
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return
    with monkeypatch.context() as patch:
        patch.setenv(f"{PREFIX}{name.upper()}", text.replace("\0", ""))
        accepted_or_refused(AutomationSettings)


@FREQUENT
@given(name=st.sampled_from(NAMES), value=VALUES)
def test_an_argument_is_accepted_or_refused(name: str, value: Any) -> None:
    accepted_or_refused(lambda: AutomationSettings(**{name: value}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("models", {"*": deep(100_000)}, id="nested deeply"),
        pytest.param("project", "nul\0", id="a character that no path has"),
        pytest.param("interval_seconds", 10**5000, id="a number of 5,000 digits"),
        pytest.param("nonsense", 1, id="no setting"),
    ],
)
def test_odd_arguments_are_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(SettingsError, match=name.upper()):
        AutomationSettings(**{name: value})


@pytest.mark.parametrize("levels", [10, 300, 900, 1000, 100_000])
@pytest.mark.parametrize("name", ["MODELS", "CRON_MAP", "RETRY"])
def test_nested_json_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, name: str, levels: int
) -> None:
    monkeypatch.setenv(f"{PREFIX}{name}", '{"a":' * levels + "1" + "}" * levels)
    with pytest.raises(SettingsError, match=f"{PREFIX}{name}"):
        AutomationSettings()


@FREQUENT
@given(name=st.sampled_from(NAMES), value=VALUES)
def test_a_value_of_the_file_is_accepted_or_refused(tmp_path: Path, name: str, value: Any) -> None:
    file = tmp_path / "automation.yaml"
    file.write_text(yaml.safe_dump({name: value}, allow_unicode=True), encoding="utf-8")
    accepted_or_refused(lambda: AutomationSettings(config=file))


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("timezone: 2026-99-99\n", id="a date that does not exist"),
        pytest.param(f"models: {'{a: ' * 2000}1{'}' * 2000}\n", id="nested deeply"),
        pytest.param(f"interval_seconds: {'9' * 5000}\n", id="a number of 5,000 digits"),
        pytest.param("? [a]\n: 1\n", id="a list as a key"),
        pytest.param("1: 2\n", id="a number as a key"),
        pytest.param("!!python/object:os.system {}\n", id="a tag of Python's"),
        pytest.param("a: &a [*a]\n", id="a value within itself"),
        pytest.param("models: &a {b: *a}\n", id="a rule within itself"),
        pytest.param("\x00", id="a character that YAML has none of"),
    ],
)
def test_odd_yaml_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "automation.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=r"automation\.yaml"):
        AutomationSettings(config=file)
