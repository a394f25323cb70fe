"""Reads the YAML file of settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from .errors import SettingsError


def read_yaml(path: Path, prefix: str, names: set[str]) -> dict[str, Any]:
    """Returns the settings in the file that ``CONFIG`` names.

    Args:
        path: The file.
        prefix: The prefix of the environment variables.
        names: The names of all settings that may stand there.

    Raises:
        SettingsError: The file is missing, is not a mapping, or names an unknown setting.
    """
    variable = f"{prefix}CONFIG={path}"
    if not path.is_file():
        raise SettingsError([f"{variable}: there is no such file"])
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError([f"{variable} is not YAML: {error}"]) from error
    if not isinstance(content, dict):
        raise SettingsError([f"{variable} is not a mapping of settings to values: {content!r}"])
    for key in content:
        if key not in names:
            raise SettingsError.unknown(str(key), f"in {path}", names)
    return content
