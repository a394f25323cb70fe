"""What the commands have in common: options, exit codes, and how an error is told."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from ...config.errors import AutomationError

EXIT_FAILED, EXIT_CONFIGURATION, EXIT_UNAVAILABLE = 1, 2, 3

_CODES = {
    EXIT_FAILED: "a model failed",
    EXIT_CONFIGURATION: "usage or configuration",
    EXIT_UNAVAILABLE: "state or warehouse out of reach",
}


def exit_codes(done: str, *codes: int) -> str:
    """Returns the end of a command's help.

    Args:
        done: What 0 says.
        codes: The other codes that the command ends with; all of them if none is given.
    """
    lines = [f"  0  {done}", *(f"  {code}  {_CODES[code]}" for code in codes or _CODES)]
    return "\n".join(["\b", "Exit codes:", *lines])


READS = (EXIT_CONFIGURATION, EXIT_UNAVAILABLE)
"""Exit codes of commands that evaluate nothing."""

_FIRST = datetime(1970, 1, 1, tzinfo=UTC)
_FURTHEST = timedelta(days=3653)
"""In ten years a model has a million five-minute intervals, which take half a minute to decide."""


def _moment(ctx: click.Context, param: click.Parameter, value: str | None) -> datetime | None:
    """Parses a moment in ISO 8601; it is read as UTC if it names no zone."""
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise click.BadParameter(
            f"{value!r} is not a time. Accepted: ISO 8601 such as 2026-11-24T00:05 (UTC) or "
            "2026-11-24T00:05+01:00."
        ) from None
    # Compared before it is converted: year 1 and year 9999 have no other zones.
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    last = datetime.now(UTC) + _FURTHEST
    if not _FIRST <= moment <= last:
        raise click.BadParameter(
            f"{value!r} is too far away. Accepted: from {_FIRST:%Y-%m-%d} to {last:%Y-%m-%d}, ten "
            "years ahead."
        )
    return moment.astimezone(UTC)


def _verbose(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        logging.disable(logging.NOTSET)


VERBOSE = "Show Dagster's and SQLMesh's log lines."

verbose_option = click.option(
    "-v",
    "--verbose",
    is_flag=True,
    expose_value=False,
    callback=_verbose,
    help=VERBOSE,
)


def settings_options(read: bool = True) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Adds the options that name the SQLMesh environment, and the exit codes of our errors.

    Args:
        read: Whether the command gets the settings; else it gets the options themselves.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def wrapped(**given: Any) -> Any:
            from ...config.errors import AutomationError, Unavailable

            try:
                return command(**({"settings": read_settings(given)} if read else {}), **given)
            except Unavailable as error:
                _fail(error, EXIT_UNAVAILABLE)
            # A model that failed is reported and raises nothing, so it is none of these.
            except AutomationError as error:
                _fail(error, EXIT_CONFIGURATION)

        for option in reversed(_SETTINGS):
            wrapped = option(wrapped)
        return wrapped

    return decorate


_SETTINGS = (
    click.option(
        "--project",
        multiple=True,
        type=click.Path(path_type=Path),
        callback=lambda context, parameter, given: given or None,
        help="SQLMesh project folder; several with one state by repeating it.",
    ),
    click.option("--gateway", help="SQLMesh gateway."),
    click.option("--environment", help="SQLMesh environment; prod where nothing says otherwise."),
    click.option(
        "--prefix",
        help=(
            "What the environment variables with the settings begin with, where several "
            "environments have their own: FINANCE_ for FINANCE_PROJECT and so on."
        ),
    ),
    verbose_option,
)


def read_settings(given: dict[str, Any]) -> Any:
    """Takes the options of :func:`settings_options` out of a command's and reads the settings.

    Raises:
        SettingsError: Some cannot be used.
    """
    from ...config.settings import PREFIX, AutomationSettings

    prefix = given.pop("prefix", None) or PREFIX
    options = {name: given.pop(name, None) for name in ("project", "gateway", "environment")}
    return AutomationSettings(
        _env_prefix=prefix, **{name: value for name, value in options.items() if value is not None}
    )


def _fail(error: AutomationError, code: int) -> None:
    """Prints an error and ends the process."""
    warn(f"Error: {error}")
    sys.exit(code)


def warn(line: str) -> None:
    """Prints a line on standard error."""
    click.echo(line, err=True)


at_option = click.option(
    "--at",
    metavar="TIME",
    callback=_moment,
    help="Moment to decide for, past or future, in ISO 8601; UTC unless it names a zone.",
)


json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object and nothing else."
)
