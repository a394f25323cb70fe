"""Tells where the settings in use come from."""

from __future__ import annotations

import os
from collections.abc import Collection

import yaml
from pydantic import BaseModel

from .settings import PREFIX, AutomationSettings


def origins(
    settings: AutomationSettings, arguments: Collection[str] = (), prefix: str = PREFIX
) -> dict[str, str]:
    """Returns where every setting that is not a default comes from, by its name.

    Args:
        settings: Settings that have just been read in this process.
        arguments: Names of the settings that were arguments.
        prefix: The prefix of the environment variables.

    Returns:
        Names such as ``SQLMESH_AUTOMATION_ENABLED`` or ``automation.yaml``; both of them if parts
        of a map come from both.
    """
    file = settings.config
    in_file = yaml.safe_load(file.read_text(encoding="utf-8")) or {} if file else {}
    origin: dict[str, str] = {}
    for name, field in type(settings).model_fields.items():
        own = f"{prefix}{name}".upper()
        variables = [
            variable
            for variable in sorted(os.environ)
            if variable.upper() == own or variable.upper().startswith(f"{own}__")
        ]
        merged = isinstance(field.default, dict | BaseModel)
        sources = list(variables)
        if name in in_file and (merged or not variables):
            sources.append(str(file))
        if name in arguments:
            sources = ["argument"]
        if sources:
            origin[name] = " over ".join(sources)
    return origin
