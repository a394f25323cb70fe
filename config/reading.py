"""Reads the YAML file of settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from .errors import SettingsError
from .problems import shown


def usable_path(path: Path) -> Path:
    """Returns a path as an absolute one, which need not exist.

    A daemon, a code server and a run worker need not share a working directory.

    Raises:
        ValueError: The system cannot look at it, or it begins with ``~`` and an unknown user.
    """
    try:
        absolute = path.expanduser().absolute()
        absolute.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except RuntimeError:
        raise ValueError(f"a path whose home folder exists; {path.parts[0]} has none") from None
    except (OSError, ValueError) as error:  # ValueError for a character that no path can have
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"a path that this machine can look at ({reason})") from None
    return absolute


def read_yaml(path: Path, prefix: str, names: set[str]) -> dict[str, Any]:
    """Returns the settings in the file that ``CONFIG`` names.

    Args:
        path: The file.
        prefix: The prefix of the environment variables.
        names: The names of all settings that may stand there.

    Raises:
        SettingsError: The file is missing, is not a mapping, or names an unknown setting.
    """
    variable = f"{prefix}CONFIG={shown(str(path))[1:-1]}"
    try:
        file = usable_path(path)
        if not file.is_file():
            raise SettingsError([f"{variable}: there is no such file"])
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise SettingsError([f"{variable} is not YAML: {error}"]) from error
    except (OSError, ValueError) as error:
        raise SettingsError([f"{variable} cannot be read: {error}"]) from error
    try:
        content = yaml.safe_load(text) or {}
    except RecursionError as error:
        raise SettingsError([f"{variable} cannot be used: it is nested too deeply"]) from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError of a date that does not exist
        raise SettingsError([f"{variable} is not YAML: {error}"]) from error
    if not isinstance(content, dict):
        raise SettingsError(
            [f"{variable} is not a mapping of settings to values: {shown(content)}"]
        )
    for key in content:
        if key not in names:
            raise SettingsError.unknown(str(key), f"in {path}", names)
    return content
