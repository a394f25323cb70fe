"""Makes the reference of the command line, ``docs/cli.md``, from the commands themselves.

``make docs-cli`` writes it: ``python -m dagster_sqlmesh_automation.automation.cli.reference``.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator

import click

from .main import main

_PROGRAM = "sqlmesh-automation"


def reference() -> str:
    """Returns the text of ``docs/cli.md``."""
    commands = "\n".join(_command(name, command) for name, command in main.commands.items())
    return f"""\
# Command line

<!-- Made by `make docs-cli` from automation/cli; do not edit. -->

`--help` of each command prints the same. `--project`, `--gateway` and `--environment` are
[settings](settings.md) as well; an option wins over its environment variable. While a command has
printed nothing for a second, a terminal shows what it is doing.

## Completion

Commands, options, models and settings, with the key of your shell:

| shell | |
| --- | --- |
| bash 4.4 and newer | `eval "$({_PROGRAM} completion bash)"`, in `~/.bashrc` |
| zsh | `eval "$({_PROGRAM} completion zsh)"`, in `~/.zshrc` below `compinit` |
| fish | `{_PROGRAM} completion fish > ~/.config/fish/completions/{_PROGRAM}.fish` |

Models are those of the manifest, without asking SQLMesh: of `--project`, of
`SQLMESH_AUTOMATION_PROJECT`, or of the working directory. `{_PROGRAM} prepare` writes it.

{commands}"""


def _command(name: str, command: click.Command) -> str:
    ctx = click.Context(command, info_name=f"{_PROGRAM} {name}")
    usage = f"{ctx.command_path} {' '.join(command.collect_usage_pieces(ctx))}"
    text = "\n\n".join(_markdown(inspect.cleandoc(command.help or "")))
    options = "\n".join(
        f"| {_names(option)} | {_escaped(option.help or '')} |"
        for option in command.params
        if isinstance(option, click.Option)
    )
    codes = "\n".join(
        f"| {code} | {meaning} |"
        for code, meaning in re.findall(r"^ *(\d)  (.*)$", command.epilog or "", re.MULTILINE)
    )
    return f"""\
## {name}

    {usage}

{text}

| option | |
| --- | --- |
{options}

| exit code | |
| --- | --- |
{codes}
"""


def _markdown(help_text: str) -> Iterator[str]:
    """Yields a help text's paragraphs; what it does not wrap is lines for a shell."""
    for paragraph in help_text.split("\n\n"):
        if not paragraph.startswith("\b\n"):
            yield _escaped(paragraph)
            continue
        for line in paragraph.splitlines()[1:]:
            if not line.startswith(" "):
                yield _escaped(line)
        lines = [f"  {line}" for line in paragraph.splitlines() if line.startswith(" ")]
        yield "\n".join(lines)


def _names(option: click.Option) -> str:
    names = ", ".join(f"`{name}`" for name in option.opts)
    value = option.make_metavar(click.Context(main)) if not option.is_flag else ""
    return f"{names} {value}".strip()


def _escaped(text: str) -> str:
    return re.sub(r"([*<|])", r"\\\1", text)


if __name__ == "__main__":
    sys.stdout.write(reference())
