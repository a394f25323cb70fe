"""The pages: what they show runs, and what they name exists."""

from __future__ import annotations

import ast
import os
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import click
import dagster as dg
import pytest
import yaml
from dagster.components.testing import create_defs_folder_sandbox
from support import pages
from support.pages import LINKED, PAGES, Block, Command, all_blocks
from support.projects import ROOT
from support.schema import invoke

from dagster_sqlmesh_automation import AutomationSettings, SQLMeshAutomationComponent
from dagster_sqlmesh_automation.automation.cli import main
from dagster_sqlmesh_automation.config.settings import PREFIX, _variables

NOT_RUN = {
    "crontab": "edits this machine's crons",
    "dagster dev": "a server: test_daemon.py and test_ui.py start one on the same definitions",
    "dagster sensor": "asks a running deployment",
    "dg scaffold": "needs a Dagster project: test_component_project.py makes one so",
    "docker": "needs Docker: test_deploy.py starts the same services without",
    "git": "a repository of the reader's",
    "helm": "needs a cluster",
    "kubectl": "needs a cluster",
    "make": "make is run by people and by CI; that the targets exist is looked up",
    "pip": "needs an index",
    "sqlmesh": "SQLMesh's own; that its command and options exist is looked up",
}
"""Commands that are shown and not run, by how they begin."""

NOT_RUN_BLOCKS = {
    ("README.md", "mermaid"): "a drawing",
    ("from-cron.md", "text"): "a crontab that is to be removed",
    ("kubernetes.md", "yaml"): "values for a chart: parsed, and its keys are those of deploy/",
}
"""Blocks that are shown and not run, by page and language."""

OTHERS = {
    "DAGSTER_HOME",
    "DAGSTER_POSTGRES_PASSWORD",
    "DAGSTER_SENSOR_GRPC_TIMEOUT_SECONDS",
    "MODEL",
    "PREPARE",
    "REQUIREMENTS",
    "SQLMESH__DISABLE_ANONYMIZED_ANALYTICS",
    "TAG",
}
"""Names in capitals that are no settings."""

PLACES = ("/srv/analytics", "/srv/finance", "/srv/marketing")
"""Where the pages' SQLMesh projects are."""

SETTINGS = {name.removeprefix(PREFIX) for name in _variables(AutomationSettings, PREFIX)}
CONSOLE = ("console", "sh")
RUN = {*CONSOLE, "python", "yaml"}


def here(text: str, project: Path) -> str:
    """A text of a page with its projects in the place of a copy of the example."""
    for place in PLACES:
        text = text.replace(place, str(project))
    return text.replace("{{ context.project_root }}/../analytics", str(project))


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
    for variable in variables.keys() - OTHERS:
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
                    assert settings_of(new, patch)
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


def shown_commands() -> list[tuple[str, str]]:
    """All commands of the pages, those within the text too, and where they are."""
    blocks = [(str(b), c.text) for b in all_blocks(*CONSOLE) for c in b.commands]
    inline = [(page.name, code) for page in LINKED for code in pages.inline_code(page)]
    return [*blocks, *inline]


@pytest.mark.parametrize("program", ["sqlmesh-automation", "sqlmesh"])
def test_every_command_that_is_named_exists_with_its_options(program: str) -> None:
    if program == "sqlmesh":
        from sqlmesh.cli.main import cli as group
    else:
        group = main
    named = [(w, c) for w, c in shown_commands() if c.startswith(f"{program} ")]
    assert named
    for where, text in named:
        words = Command(text.replace("…", "x")).words[1:]
        if words == ["x"] or "|" in text.partition("#")[0].replace(" | jq", ""):
            continue
        try:
            parsed = group.make_parser(click.Context(group)).parse_args(words)
            name, *rest = parsed[1]
            command = group.commands[name]
            command.make_parser(click.Context(command)).parse_args(rest)
        except (click.UsageError, KeyError) as error:
            pytest.fail(f"{where}: {text!r}: {error}")


def test_every_target_of_make_that_is_named_exists() -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = {
        found[1]
        for _, text in shown_commands()
        if (found := re.match(r"make ([a-z-]+)", text)) and not text.startswith("make targets")
    }
    assert named
    assert named <= {*targets}


def test_what_is_not_run_is_still_shown() -> None:
    commands = [c.text for b in all_blocks(*CONSOLE) for c in b.commands]
    assert {not_run(text) for text in commands} - {None} == {*NOT_RUN}
    every = [b for page in PAGES for b in pages.blocks(page)]
    assert {(b.page.name, b.language) for b in every if is_listed(b)} == {*NOT_RUN_BLOCKS}


def test_there_is_no_block_that_nothing_runs() -> None:
    every = [b for page in PAGES for b in pages.blocks(page)]
    unknown = [f"{b} ({b.language})" for b in every if b.language not in RUN and not is_listed(b)]
    assert not unknown, f"blocks that no test runs, and that NOT_RUN_BLOCKS does not name: {unknown}"


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


# What is named


@pytest.mark.parametrize("page", LINKED, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_anchors_lead_somewhere(page: Path) -> None:
    for link in pages.links(page):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link} does not exist"
        assert ROOT.resolve() in target.parents
        if anchor:
            assert anchor in pages.anchors(target), f"{link}: {sorted(pages.anchors(target))}"


@pytest.mark.parametrize("page", LINKED, ids=lambda page: str(page.relative_to(ROOT)))
def test_settings_that_are_named_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = {*re.findall(rf"\b{PREFIX}([A-Z][A-Z_]*[A-Z])\b", text)}
    for code in pages.inline_code(page):
        if found := re.fullmatch(r"([A-Z][A-Z_]{3,})(=.*)?", code):
            named.add(found[1].removeprefix(PREFIX))
    unknown = named - SETTINGS - OTHERS - {"SOURCE"}
    assert not unknown


@cache
def tests_of(file: Path) -> frozenset[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return frozenset(each.name for each in tree.body if isinstance(each, ast.FunctionDef))


@pytest.mark.parametrize("page", LINKED, ids=lambda page: str(page.relative_to(ROOT)))
def test_tests_that_are_named_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for file, name in re.findall(r"\b(test_\w+\.py)(?:::(\w+))?", text):
        assert (ROOT / "tests" / file).is_file(), file
        assert not name or name in tests_of(ROOT / "tests" / file), f"{file}::{name}"


def test_every_row_of_the_comparison_names_its_proof() -> None:
    text = (ROOT / "docs" / "coming-from.md").read_text(encoding="utf-8")
    tables = [part for part in text.split("\n\n") if part.startswith("| | here |")]
    assert len(tables) >= 4
    for row in (row for table in tables for row in table.splitlines()[2:]):
        if row.startswith("|"):
            assert re.search(r"`tests/test_\w+\.py::test_\w+` \|$", row), row
