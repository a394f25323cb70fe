"""The environment variables that hold settings: which there are, and what is wrong with one."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic_settings import BaseSettings

from .errors import SettingsError
from .problems import is_hidden, shown
from .redaction import HIDDEN
from .rules import RetrySettings
from .sources import Sources


def variables(settings: type[BaseSettings], prefix: str) -> set[str]:
    """Returns every variable that is read: of each setting, and of each part of ``RETRY``."""
    parts = {f"retry__{part}" for part in RetrySettings.model_fields}
    return {f"{prefix}{name.upper()}" for name in {*settings.model_fields, *parts}}


def refuse_unknown(settings: type[BaseSettings], prefix: str) -> None:
    """Makes sure that every variable with the prefix is one that is read.

    pydantic reads variables in upper and lower case alike, so a name in either may have a mistake.

    Raises:
        SettingsError: A variable is unknown.
    """
    names = variables(settings, prefix)
    in_upper = {name.upper() for name in names}
    for variable in os.environ:
        upper = variable.upper()
        if upper.startswith(prefix.upper()) and upper not in in_upper:
            raise SettingsError.unknown(variable, "environment variable", names)


def objects(settings: type[BaseSettings]) -> set[str]:
    """Returns the names of the settings that are objects, which a text holds as JSON."""
    return {
        name
        for name, field in settings.model_fields.items()
        if isinstance(field.default, dict | BaseModel)
    }


def from_json(
    settings: type[BaseSettings], arguments: Mapping[str, Any], sources: Sources
) -> dict[str, Any]:
    """Returns the arguments for objects that are a text, read as JSON.

    A reference or a template brings the text of a variable, in which such a setting is JSON too.

    Raises:
        SettingsError: Some are not JSON.
    """
    read, problems = {}, []
    for name in sorted(objects(settings) & arguments.keys()):
        text = arguments[name]
        if isinstance(text, str):
            try:
                read[name] = json.loads(text)
            except (ValueError, RecursionError) as error:
                value = HIDDEN if is_hidden((name,), sources) else shown(text)
                problems.append(_not_json(sources.place(name), value, error))
    if problems:
        raise SettingsError(problems)
    return read


def unreadable_json(settings: type[BaseSettings], prefix: str) -> SettingsError:
    """Returns the error for the variable that should hold JSON and does not.

    pydantic's own error names the field and not the value, or, where the JSON is nested too
    deeply, nothing at all.
    """
    mappings = {f"{prefix}{name}".upper() for name in objects(settings)}
    problems = []
    for variable, text in os.environ.items():
        if variable.upper() in mappings:
            try:
                json.loads(text)
            except (ValueError, RecursionError) as error:
                problems.append(_not_json(variable, shown(text), error))
    return SettingsError(problems)


def _not_json(place: str, value: str, error: Exception) -> str:
    reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
    return f"{place}={value} is not JSON: {reason}"
