"""``sqlmesh-automation settings``: which settings there are, and what is in use of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import click

from .options import EXIT_CONFIGURATION, exit_codes, read_settings, settings_options, warn
from .shell import complete_setting


@click.command(name="settings", epilog=exit_codes("done", EXIT_CONFIGURATION))
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=complete_setting)
@settings_options(read=False)
def settings_command(names: Sequence[str], **given: Any) -> None:
    """List the settings with the values in use; or tell all about those with a NAME.

    A part of a name is enough. The list is printed also where a setting cannot be used, which is
    then said on standard error.

    \b
    Examples:
      sqlmesh-automation settings
      sqlmesh-automation settings cron
    """  # noqa: D301 - click reads the character
    from ...config.errors import AutomationError, SettingsError
    from ...config.reference import described
    from ...config.setup_errors import nearest_setting

    try:
        arguments = [name for name, value in given.items() if value is not None]
        in_use = dict(_in_use(read_settings(given), arguments))
    except AutomationError as error:
        warn(f"Error: {error}\n")
        in_use = {}
    rows = [[cell.replace("`", "").replace("\\", "") for cell in row] for row in described()]
    if not names:
        width = max(len(row[0]) for row in rows) + 2
        for name, _, default, *_ in rows:
            click.echo(f"{name:<{width}}{in_use.get(name) or f'{default} (default)'}")
        return
    for part in names:
        found = [row for row in rows if part.upper() in row[0]]
        if not found:
            hint = nearest_setting(part, setting_names())
            raise SettingsError([f"{part} is not a part of a setting's name. {hint}"])
        for name, kind, default, description, example in found:
            click.echo(f"{name}\n  {description}")
            click.echo(f"  {kind}; default: {default}; in use: {in_use.get(name, 'the default')}")
            click.echo(f"  example: {example}")


def setting_names() -> list[str]:
    """Returns the settings' names without their prefix, such as ``CRON_MAP``."""
    from ...config.settings import PREFIX, AutomationSettings
    from ...config.variables import variables

    return sorted(name.removeprefix(PREFIX) for name in variables(AutomationSettings, PREFIX))


def _in_use(settings: Any, arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yields what is not a default: the variable, and its value with where it comes from."""
    from ...config.origins import origins
    from ...config.redaction import redacted
    from ...config.settings import PREFIX

    values = settings.model_dump(mode="json", exclude_none=True)
    for name, origin in origins(settings, arguments).items():
        value = values.get(name)
        text = value if isinstance(value, str) else json.dumps(value)
        yield f"{PREFIX}{name.upper()}", redacted(f"{text} ({origin})")
