"""The reference of the command line: up to date, and complete."""

from __future__ import annotations

import re
import shlex

import click
from support.projects import ROOT

from dagster_sqlmesh_automation.automation.cli import reference
from dagster_sqlmesh_automation.automation.cli.main import main


def test_the_file_is_what_the_commands_say() -> None:
    kept = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert kept == reference.reference(), "run `make docs-cli`"


def test_it_has_every_command_option_and_exit_code() -> None:
    sections = dict(section.split("\n", 1) for section in reference.reference().split("\n## ")[2:])
    assert sections.keys() == main.commands.keys()
    for name, command in main.commands.items():
        text = sections[name]
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert f"`{parameter.opts[0]}`" in text, (name, parameter.opts)
        assert "\n| 0 | " in text
        assert "\n| 2 | usage or configuration |" in text
        assert "\b" not in text


def test_the_examples_are_commands_with_options_that_exist() -> None:
    examples = re.findall(r"^    sqlmesh-automation (.*)$", reference.reference(), re.MULTILINE)
    parsed = 0
    for example in examples:
        words = shlex.split(re.split(r" [|>] ", example)[0])
        if "[OPTIONS]" not in words:
            command = main.commands[words[0]]
            command.make_parser(click.Context(command)).parse_args(words[1:])
            parsed += 1
    assert parsed > 10
