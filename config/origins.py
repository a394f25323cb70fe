"""Which settings are in use, and where each comes from."""

from __future__ import annotations

import os
from collections.abc import Collection

import yaml
from pydantic import BaseModel

from .settings import PREFIX, AutomationSettings


def origins(
    settings: AutomationSettings, arguments: Collection[str] = (), prefix: str = PREFIX
) -> dict[str, str]:
    """Where every setting that is given comes from, by its name; defaults are left out.

    Args:
        settings: The settings, read from here and now.
        arguments: Names of those that were given as arguments.
        prefix: Of the environment variables.

    Returns:
        Such as ``SQLMESH_AUTOMATION_ENABLED`` or ``automation.yaml``; both where parts of a map
        come from both.
    """
    file = settings.config
    in_file = yaml.safe_load(file.read_text(encoding="utf-8")) or {} if file else {}
    found: dict[str, str] = {}
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
            found[name] = " over ".join(sources)
    return found
