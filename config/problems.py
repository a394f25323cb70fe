"""Says in words what is wrong with a value of the settings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .rules import ModelRule, RetryRule

_MAPPINGS = {
    "cron_map": '{"@daily": "0 6 * * 1-5 Europe/Berlin", "@weekly": "off"}',
    "models": '{"sales.*": {"schedule": "0 6 * * *"}}',
    "rule": '{"schedule": "0 6 * * *"}',
    "retry": '{"max_attempts": 5}',
}


def holds(values: Any, path: Sequence[str | int]) -> bool:
    """Returns whether values, nested as settings are, have something at a path."""
    for part in path:
        if not isinstance(values, dict) or part == "[key]":
            return True
        if part not in values:
            return False
        values = values[part]
    return True


def explain(problem: Any, prefix: str, file: str | Path | None) -> str:
    """Returns one line for a value that cannot be used: its place, the value, what is accepted.

    Args:
        problem: One of pydantic's errors.
        prefix: The prefix of the variables.
        file: The YAML file that holds the value, or ``None`` if a variable or argument does.
    """
    first, *rest = (str(part) for part in problem["loc"] if part != "[key]")
    if first in {"cron_map", "models"} and rest:
        key = f"{first if file else first.upper()}[{rest[0]!r}]" + "".join(
            f".{part}" for part in rest[1:]
        )
    else:
        key = ".".join([first, *rest]) if file else "__".join([first, *rest]).upper()
    name = f"{key} in {file}" if file else f"{prefix}{key}"
    if problem["type"] == "extra_forbidden":
        accepted = ", ".join(
            RetryRule.model_fields if "retry" in (first, *rest) else ModelRule.model_fields
        )
    elif problem["type"] in {"dict_type", "model_type"}:
        what = "retry" if "retry" in rest else "rule" if rest else first
        accepted = f"a mapping such as {_MAPPINGS[what]}"
    else:
        accepted = problem["msg"].removeprefix("Value error, ")
    return f"{name}={problem['input']!r} cannot be used. Accepted: {accepted}"
