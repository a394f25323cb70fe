"""Completion of commands, models and settings in a shell.

A shell starts a process for every press of its key, so nothing is imported here that takes long,
and nothing is asked of SQLMesh: models are those of the manifest file.
"""

from __future__ import annotations

import logging
import sys

import click
from click.shell_completion import CompletionItem, get_completion_class

from .options import EXIT_CONFIGURATION, exit_codes, read_settings, verbose_option

_VARIABLE = "_SQLMESH_AUTOMATION_COMPLETE"
"""click looks for what a shell asks in this environment variable."""


@click.command(epilog=exit_codes("done", EXIT_CONFIGURATION))
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@verbose_option
def completion(shell: str) -> None:
    """Print the script that makes a SHELL complete commands, options, models and settings.

    Models are those of the manifest, which `sqlmesh-automation prepare` writes.

    \b
    For this shell; for good, put the line into ~/.bashrc or ~/.zshrc:
      eval "$(sqlmesh-automation completion bash)"
      eval "$(sqlmesh-automation completion zsh)"
      sqlmesh-automation completion fish > ~/.config/fish/completions/sqlmesh-automation.fish
    """  # noqa: D301 - click reads the character
    root = click.get_current_context().find_root()
    kind = get_completion_class(shell)
    assert kind is not None
    script = kind(root.command, {}, "sqlmesh-automation", _VARIABLE)
    # Not script.source(), which warns of an old bash by starting the one that is found first.
    sys.stdout.write(script.source_template % script.source_vars())


def complete_model(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Returns the models and standalone audits whose names begin so."""
    from ...assets.project.manifest_file import read
    from ...config.errors import AutomationError

    logging.disable(logging.CRITICAL)  # of a file that cannot be used; nothing but names is shown
    try:
        manifest = read(read_settings(dict(ctx.params)))
    except AutomationError:
        return []  # the command itself says what is wrong
    nodes = manifest.decided if manifest else ()
    begun = incomplete.lower()
    return [CompletionItem(node.name) for node in nodes if node.name.lower().startswith(begun)]


def complete_setting(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Returns the settings whose names begin so."""
    from .listing import setting_names

    begun = incomplete.upper()
    return [CompletionItem(name) for name in setting_names() if name.startswith(begun)]
