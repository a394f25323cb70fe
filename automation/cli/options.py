"""What the commands have in common: options, exit codes, and how an error is told."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import wraps
from pathlib import Path
from typing import Any

import click

from ...config.errors import AutomationError, Unavailable
from ...config.settings import PREFIX, AutomationSettings

EXIT_FAILED, EXIT_CONFIGURATION, EXIT_UNAVAILABLE = 1, 2, 3

EXIT_CODES = """\b
Exit codes:
  0  done, also when nothing is due
  1  a model failed
  2  usage or configuration
  3  state or warehouse out of reach"""


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


def settings_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options that name the SQLMesh environment, and the exit codes of our errors."""

    @click.option(
        "--project",
        multiple=True,
        type=click.Path(path_type=Path),
        callback=lambda context, parameter, given: given or None,
        help="SQLMesh project folder; several with one state by repeating it.",
    )
    @click.option("--gateway", help="SQLMesh gateway.")
    @click.option("--environment", help="SQLMesh environment; prod where nothing says otherwise.")
    @click.option(
        "--prefix",
        default=PREFIX,
        help=(
            "What the environment variables with the settings begin with, where several "
            "environments have their own: FINANCE_ for FINANCE_PROJECT and so on."
        ),
    )
    @wraps(command)
    def wrapped(
        project: tuple[Path, ...] | None,
        gateway: str | None,
        environment: str | None,
        prefix: str,
        **kwargs: Any,
    ) -> Any:
        options = {"project": project, "gateway": gateway, "environment": environment}
        try:
            settings = AutomationSettings(
                _env_prefix=prefix, **{k: v for k, v in options.items() if v is not None}
            )
            return command(settings=settings, **kwargs)
        except Unavailable as error:
            _fail(error, EXIT_UNAVAILABLE)
        # A model that failed is reported and raises nothing, so it is none of these.
        except AutomationError as error:
            _fail(error, EXIT_CONFIGURATION)

    return wrapped


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
