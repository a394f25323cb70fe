"""``PROJECT``: a path, or a list of several."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from dagster_sqlmesh_automation.config.commands import sqlmesh_command
from dagster_sqlmesh_automation.config.errors import SettingsError
from dagster_sqlmesh_automation.config.settings import PREFIX, AutomationSettings

TWO = (Path("/srv/sales"), Path("/srv/mart"))
ACCEPTED = 'Accepted: a path, or a list of paths, which a text holds as JSON: ["/srv/sales", '


@pytest.mark.parametrize("source", ["argument", "text", "variable", "yaml", "EnvVar", "EnvVars"])
def test_several_projects_may_come_from_everywhere(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = ["/srv/sales", "/srv/mart"]
    arguments: dict[str, Any] = {}
    match source:
        case "argument":
            arguments["project"] = list(TWO)
        case "text":
            arguments["project"] = json.dumps(listed)
        case "variable":
            monkeypatch.setenv(f"{PREFIX}PROJECT", json.dumps(listed))
        case "yaml":
            arguments["config"] = tmp_path / "automation.yaml"
            arguments["config"].write_text("project: [/srv/sales, /srv/mart]\n")
        case "EnvVar":
            monkeypatch.setenv("PATHS", json.dumps(listed))
            arguments["project"] = dg.EnvVar("PATHS")
        case "EnvVars":
            monkeypatch.setenv("FIRST", listed[0])
            arguments["project"] = [dg.EnvVar("FIRST"), listed[1]]
    settings = AutomationSettings(**arguments)
    assert settings.project == settings.projects == TWO
    assert settings.projects.main == TWO[0]
    assert json.loads(settings.model_dump_json())["project"] == listed
    command = "sqlmesh -p /srv/sales -p /srv/mart plan prod"
    assert sqlmesh_command("plan prod", settings.projects) == command


@pytest.mark.parametrize(
    "given", ["/srv/sales", ["/srv/sales"], '["/srv/sales"]', ["/srv/sales", "/srv/sales"]]
)
def test_one_project_is_a_path_however_it_is_written(given: Any) -> None:
    settings = AutomationSettings(project=given)
    assert settings.project == Path("/srv/sales")
    assert settings.projects == (Path("/srv/sales"),)
    assert str(settings.projects) == "/srv/sales"


@pytest.mark.parametrize("folder", ["2024", "1e3", "true", "null", "a,b", "a:b", "{x}", "./[x]"])
def test_a_variable_with_a_folder_that_reads_like_something_else_is_a_path(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(f"{PREFIX}PROJECT", folder)
    assert AutomationSettings().project == tmp_path / folder


@pytest.mark.parametrize("text", ["[]", '["/srv/sales"', "[/srv/sales, /srv/mart]", "[1]", "[[]]"])
def test_a_list_that_cannot_be_used_is_refused_with_what_can(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"{PREFIX}PROJECT", text)
    with pytest.raises(SettingsError) as caught:
        AutomationSettings()
    (problem,) = caught.value.problems
    assert problem.startswith(f"{PREFIX}PROJECT={text!r} cannot be used. {ACCEPTED}")


@pytest.mark.parametrize("value", [None, 1, {}, [1], [["/srv/sales"]], b"/srv/sales"])
def test_a_value_that_is_no_path_is_refused(value: Any) -> None:
    with pytest.raises(SettingsError, match=r"PROJECT=.* cannot be used\. Accepted: a path"):
        AutomationSettings(project=value)


def test_one_of_several_that_cannot_be_looked_at_is_named() -> None:
    with pytest.raises(SettingsError, match="~nosuchuser has none"):
        AutomationSettings(project=["/srv/sales", "~nosuchuser/x"])
    with pytest.raises(SettingsError) as caught:
        AutomationSettings(project=["/srv/sales", dg.EnvVar("NOWHERE")])
    (problem,) = caught.value.problems
    assert problem.startswith("project[1]=dg.EnvVar('NOWHERE') cannot be used: the environment")
