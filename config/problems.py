"""Says in words what is wrong with a value of the settings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from .rules import ModelRule, RetryRule

_MAPPINGS = {
    "cron_map": '{"@daily": "0 6 * * 1-5 Europe/Berlin", "@weekly": "off"}',
    "models": '{"sales.*": {"schedule": "0 6 * * *"}}',
    "rule": '{"schedule": "0 6 * * *"}',
    "retry": '{"max_attempts": 5}',
}

_MOST_CHARACTERS = 500


def shown(value: Any) -> str:
    """Returns a value as Python writes it, shortened where it is long."""
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # nested deeply; a number with thousands of digits
        return f"<{type(value).__name__}>"
    return _cut(text)


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}…"


def holds(values: Any, path: Sequence[str | int]) -> bool:
    """Returns whether values, nested as settings are, have something at a path."""
    for part in path:
        if not isinstance(values, dict) or part == "[key]":
            return True
        if part not in values:
            return False
        values = values[part]
    return True


def explain(
    problem: Any, prefix: str, file: str | Path | None, settings: Iterable[str] = ()
) -> str:
    """Returns one line for a value that cannot be used: its place, the value, what is accepted.

    Args:
        problem: One of pydantic's errors.
        prefix: The prefix of the variables.
        file: The YAML file that holds the value, or ``None`` if a variable or argument does.
        settings: The names of all settings.
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
        keys = RetryRule.model_fields if "retry" in (first, *rest) else ModelRule.model_fields
        accepted = ", ".join(keys if rest else settings)
    elif problem["type"] in {"dict_type", "model_type"}:
        what = "retry" if "retry" in rest else "rule" if rest else first
        accepted = f"a mapping such as {_MAPPINGS[what]}"
    else:
        accepted = problem["msg"].removeprefix("Value error, ")
    value = shown(problem["input"])
    return f"{_cut(name)}={value} cannot be used. Accepted: {_cut(accepted)}"
