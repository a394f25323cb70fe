"""The pages: what they name exists: links, settings, commands, tests."""

from __future__ import annotations

import ast
import re
import signal
import subprocess
from functools import cache
from pathlib import Path

import click
import pytest
from support import pages
from support.pages import LINKED, Command, all_blocks
from support.projects import ROOT

from dagster_sqlmesh_automation import AutomationSettings
from dagster_sqlmesh_automation.assets import dagster_internals
from dagster_sqlmesh_automation.automation.cli.main import main
from dagster_sqlmesh_automation.config.settings import PREFIX
from dagster_sqlmesh_automation.config.variables import variables

OTHERS = {
    "DAGSTER_HOME",
    "DAGSTER_POSTGRES_PASSWORD",
    "DAGSTER_SENSOR_GRPC_TIMEOUT_SECONDS",
    "GET_LOCK",
    "INCREMENTAL_UNMANAGED",
    "MODEL",
    "PREPARE",
    "KINDS",
    "REASONS",
    "REQUIREMENTS",
    "SQLMESH__CACHE_DIR",
    "SQLMESH__DISABLE_ANONYMIZED_ANALYTICS",
    "TAG",
    *(each.name for each in signal.Signals),
}
"""Names in capitals that are no settings."""

SETTINGS = {name.removeprefix(PREFIX) for name in variables(AutomationSettings, PREFIX)}


def shown_commands() -> list[tuple[str, str]]:
    """All commands of the pages, those within the text too, and where they are."""
    blocks = [(str(b), c.text) for b in all_blocks("console", "sh") for c in b.commands]
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
        found[1] for _, text in shown_commands() if (found := re.match(r"make ([a-z-]+)", text))
    }
    assert named
    assert named <= {*targets}


def test_make_opens_the_ui_on_the_port_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "8080")  # of another program

    def recipe(*arguments: str) -> str:
        command = ["make", "--dry-run", "ui", *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout

    assert "examples/ui.py .demo --port 3000" in recipe()
    assert "examples/ui.py .demo --port 3001" in recipe("PORT=3001")


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
    unknown = named - SETTINGS - OTHERS - {*dagster_internals.__all__} - {""}
    assert not unknown


@pytest.mark.parametrize(
    "code",
    sorted(
        {
            code
            for page in LINKED
            for code in pages.inline_code(page)
            if code.partition("=")[0] in SETTINGS and "=" in code
        }
    ),
)
def test_values_that_are_named_are_accepted(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, _, value = code.partition("=")
    monkeypatch.setenv(f"{PREFIX}{name}", value)
    assert name.lower() in AutomationSettings().model_fields_set


@cache
def functions(file: Path) -> frozenset[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return frozenset(each.name for each in tree.body if isinstance(each, ast.FunctionDef))


@pytest.mark.parametrize("page", LINKED, ids=lambda page: str(page.relative_to(ROOT)))
def test_tests_that_are_named_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for file, name in re.findall(r"\b((?:\w+/)*test_\w+\.py)(?:::(\w+))?", text):
        assert (ROOT / file).is_file(), file
        assert not name or name in functions(ROOT / file), f"{file}::{name}"


def test_every_row_of_the_comparison_names_its_proof() -> None:
    text = (ROOT / "docs" / "coming-from.md").read_text(encoding="utf-8")
    tables = [part for part in text.split("\n\n") if part.startswith("| | here |")]
    assert len(tables) >= 4
    for row in (row for table in tables for row in table.splitlines()[2:]):
        if row.startswith("|"):
            assert re.search(r"`tests/\w+/test_\w+\.py::test_\w+` \|$", row), row


def test_each_picture_says_what_is_on_it_and_is_made_by_a_test() -> None:
    made = {
        name
        for test in (ROOT / "tests" / "ui").glob("*.py")
        for name in re.findall(r"picture\(\s*\"([\w-]+)\"", test.read_text(encoding="utf-8"))
    }
    shown = set()
    for page in (ROOT / "docs").glob("*.md"):
        text = page.read_text(encoding="utf-8")
        for name, below in re.findall(r"!\[[^\]]+\]\(images/([\w-]+\.\w+)\)\n(.*)", text):
            assert re.fullmatch(r"\*\S.{20,}\S\*", below), f"{page.name}: {name} has no caption"
            shown.add(name)
        assert text.count("](images/") == len(re.findall(r"\]\(images/.*\)\n\*", text)), page.name
    assert {path.name for path in (ROOT / "docs" / "images").iterdir()} == shown
    assert {name.removesuffix(".png") for name in shown if name.endswith(".png")} <= made
