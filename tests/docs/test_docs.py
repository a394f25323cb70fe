"""The pages: what they show runs, or says here why not."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster.components.testing import create_defs_folder_sandbox
from support import pages
from support.pages import PAGES, Block, Command, all_blocks
from support.projects import ROOT
from support.schema import invoke

from dagster_sqlmesh_automation import AutomationSettings, SQLMeshAutomationComponent
from dagster_sqlmesh_automation.config.settings import PREFIX
from dagster_sqlmesh_automation.config.variables import variables

NOT_RUN = {
    "crontab": "edits this machine's crons",
    "dagster dev": "a server: test_daemon.py and test_ui.py start one on the same definitions",
    "dg scaffold": "needs a Dagster project: test_component_project.py makes one so",
    "docker": "needs Docker: test_deploy.py starts the same services without",
    "helm": "needs a cluster",
    "kubectl": "needs a cluster",
    "make": "run by people and by CI: test_docs_names.py looks the targets up",
    "pip": "needs an index",
}
"""Commands that are shown and not run, by how they begin."""

NOT_RUN_BLOCKS = {
    ("README.md", "mermaid"): "a drawing",
    ("from-cron.md", "text"): "a crontab that is to be removed",
    ("kubernetes.md", "yaml"): "values for a chart: parsed, and its keys are those of deploy/",
}
"""Blocks that are shown and not run, by page and language."""

PLACES = ("/srv/analytics", "/srv/finance", "/srv/marketing")
"""Where the pages' SQLMesh projects are."""

HOME = "/srv/dagster"
"""Where the pages' Dagster instance is."""

SETTINGS = {name.removeprefix(PREFIX) for name in variables(AutomationSettings, PREFIX)}
CONSOLE = ("console", "sh")
RUN = {*CONSOLE, "python", "yaml"}


def here(text: str, project: Path) -> str:
    """A text of a page with its projects in the place of a copy of the example."""
    for place in PLACES:
        text = text.replace(place, str(project))
    text = text.replace("{{ context.project_root }}/../analytics", str(project))
    return text.replace(HOME, str(project.parent))


def is_listed(block: Block) -> bool:
    return (block.page.name, block.language) in NOT_RUN_BLOCKS


# Commands


def exported(command: Command, project: Path) -> dict[str, str]:
    """The variables that an ``export`` sets, as a shell does it."""
    printed = subprocess.run(
        ["bash", "-ceu", f"{here(command.text, project)}\nenv -0"],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found = dict(each.split("=", 1) for each in printed.split("\0") if each)
    return {name: found[name] for name in found.keys() - {"PATH", "PWD", "SHLVL", "_"}}


def prefixes(variables: dict[str, str]) -> set[str]:
    """What the names of settings begin with, among some variables."""
    found = set()
    for variable in variables.keys() - {"DAGSTER_HOME"}:
        setting = max((s for s in SETTINGS if variable.endswith(f"_{s}")), key=len, default=None)
        assert setting, f"{variable} is no setting"
        found.add(variable.removesuffix(setting))
    return found


def settings_of(variables: dict[str, str], patch: pytest.MonkeyPatch) -> list[AutomationSettings]:
    """The settings that variables make, one for each prefix."""
    for name, value in variables.items():
        patch.setenv(name, value)
    return [AutomationSettings(_env_prefix=prefix) for prefix in sorted(prefixes(variables))]


@pytest.mark.parametrize("block", all_blocks(*CONSOLE), ids=str)
def test_commands_run_and_print_what_is_shown(
    block: Block, example: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = {f"{PREFIX}PROJECT": str(example)}
    for command in block.commands:
        words = command.words
        match words:
            case []:
                continue
            case ["export", *_]:
                new = exported(command, example)
                variables |= new
                with monkeypatch.context() as patch:
                    assert settings_of(new, patch) or "DAGSTER_HOME" in new
            case ["sqlmesh-automation", *arguments]:
                result = invoke(*arguments, **variables)
                assert result.exit_code == 0, result.output
                assert_shown(command, result.output)
            case _:
                assert not_run(command.text), f"{block}: {command.text!r} is not run by any test"
                assert not command.output, f"{block}: output of what is not run"


def not_run(text: str) -> str | None:
    """How a command begins that is not run."""
    return next((start for start in NOT_RUN if f"{text} ".startswith(f"{start} ")), None)


def assert_shown(command: Command, output: str) -> None:
    printed: Iterator[str] = iter(output.splitlines())
    for line in command.output:
        wanted = pages.shape(line)
        if line.strip() == "…":
            continue
        assert any(wanted.fullmatch(each) for each in printed), f"{line!r} is not in:\n{output}"


def test_what_is_not_run_is_still_shown() -> None:
    commands = [c.text for b in all_blocks(*CONSOLE) for c in b.commands]
    assert {not_run(text) for text in commands} - {None} == {*NOT_RUN}
    every = [b for page in PAGES for b in pages.blocks(page)]
    assert {(b.page.name, b.language) for b in every if is_listed(b)} == {*NOT_RUN_BLOCKS}


def test_there_is_no_block_that_nothing_runs() -> None:
    every = [b for page in PAGES for b in pages.blocks(page)]
    unknown = [f"{b} ({b.language})" for b in every if b.language not in RUN and not is_listed(b)]
    assert not unknown, (
        f"blocks that no test runs, and that NOT_RUN_BLOCKS does not name: {unknown}"
    )


# Python and YAML


@pytest.mark.parametrize("block", all_blocks("python"), ids=str)
def test_python_loads_as_definitions(
    block: Block, example: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for each in pages.blocks(block.page):
        for command in each.commands if each.language in CONSOLE else ():
            if command.words[:1] == ["export"]:
                for name, value in exported(command, example).items():
                    monkeypatch.setenv(name, value)
    monkeypatch.setenv(f"{PREFIX}PROJECT", str(example))
    code = here(block.text, example).replace("[...]", "[]")
    namespace: dict[str, Any] = {"__name__": "page"}
    exec(compile(code, str(block), "exec"), namespace)
    defs = namespace["defs"]
    dg.Definitions.validate_loadable(defs)
    assert len(defs.resolve_asset_graph().materializable_asset_keys) >= 18


@pytest.mark.parametrize("block", all_blocks("yaml"), ids=str)
def test_yaml_is_settings_or_a_component(block: Block, example: Path, tmp_path: Path) -> None:
    text = here(block.text, example)
    content = yaml.safe_load(text)
    if "type" in content:
        assert_component(content)
    elif is_listed(block):
        assert_values(content)
    else:
        file = tmp_path / "automation.yaml"
        file.write_text(text)
        settings = AutomationSettings(config=file)
        assert {*content} <= settings.model_fields_set


def assert_component(content: dict[str, Any]) -> None:
    assert content["type"] == (
        f"{SQLMeshAutomationComponent.__module__.split('.')[0]}.{SQLMeshAutomationComponent.__name__}"
    )
    with create_defs_folder_sandbox() as sandbox:
        folder = sandbox.defs_folder_path / "models"
        folder.mkdir()
        (folder / "defs.yaml").write_text(yaml.safe_dump(content))
        with sandbox.build_all_defs() as defs:
            assert len(defs.resolve_asset_graph().materializable_asset_keys) == 18


def assert_values(content: Any, known: Any = None) -> None:
    """Every key is one of the values that we ship, at the same place."""
    if known is None:
        known = yaml.safe_load((ROOT / "deploy/kubernetes/values.yaml").read_text())
    if isinstance(content, dict):
        assert {*content} <= {*known}, f"{content} is not in deploy/kubernetes/values.yaml"
        for key, value in content.items():
            if isinstance(value, dict | list):
                assert_values(value, known[key])
    elif isinstance(content, list):
        for each in content:
            if isinstance(each, dict):
                assert_values(each, {key: value for item in known for key, value in item.items()})
