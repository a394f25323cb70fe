"""Reads the sources of settings: the variables and the YAML file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
)

from .errors import SettingsError
from .paths import usable_path
from .problems import shown
from .sources import PREFIX, Sources, variable


def read_yaml(path: Path, place: str, settings: Iterable[str]) -> dict[str, Any]:
    """Returns the settings in the file that ``CONFIG`` names.

    Args:
        path: The file.
        place: Where its name stands, for messages.
        settings: The names of all settings.

    Raises:
        SettingsError: The file is missing, is not a mapping, or names an unknown setting.
    """
    named = f"{place}={shown(str(path))[1:-1]}"
    names = set(settings) - {"config"}
    try:
        file = usable_path(path)
        if not file.is_file():
            raise SettingsError([f"{named}: there is no such file"])
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise SettingsError([f"{named} is not YAML: {error}"]) from None
    except (OSError, ValueError) as error:
        raise SettingsError([f"{named} cannot be read: {error}"]) from error
    try:
        content = yaml.safe_load(text) or {}
    except RecursionError as error:
        raise SettingsError([f"{named} cannot be used: it is nested too deeply"]) from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError of a date that does not exist
        raise SettingsError([f"{named} is not YAML: {_problem(error)}"]) from None
    if not isinstance(content, dict):
        raise SettingsError(
            [f"{named} is not a mapping of settings to values but a {type(content).__name__}"]
        )
    for key in content:
        if key not in names:
            raise SettingsError.unknown(str(key), f"in {path}", names)
    return content


def _problem(error: yaml.YAMLError | ValueError) -> str:
    """Returns what is wrong with a YAML file and where, without the line of the file itself."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return str(error)
    return f"{error.problem}, line {error.problem_mark.line + 1}"


def all_sources(settings: type[BaseSettings], arguments: Sources) -> Sources:
    """Returns sources with the variables and the YAML file beside the arguments.

    Raises:
        SettingsError: The file cannot be used.
    """
    variables = EnvSettingsSource(settings, env_prefix=arguments.prefix)()
    sources = replace(arguments, variables=variables)
    file = arguments.arguments.get("config") or variables.get("config")
    if file is None:
        return sources
    content = read_yaml(Path(file), sources.place("config"), settings.model_fields)
    return replace(sources, file=Path(file), content=content)


def with_file(
    settings: type[BaseSettings],
    arguments: PydanticBaseSettingsSource,
    variables: PydanticBaseSettingsSource,
) -> tuple[PydanticBaseSettingsSource, ...]:
    """Returns arguments and variables, and after them the YAML file if one of them names it.

    Raises:
        SettingsError: The file cannot be used.
    """
    path = arguments().get("config") or variables().get("config")
    if path is None:
        return arguments, variables
    place = variable("config", prefix=getattr(variables, "env_prefix", PREFIX))
    content = read_yaml(Path(path), place, settings.model_fields)
    return arguments, variables, InitSettingsSource(settings, content)
