"""Says in words what is wrong with a value of the settings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .redaction import HIDDEN, is_secret, masked, redacted
from .references import Keys
from .rules import ModelRule, RetryRule
from .setup_errors import nearest_setting
from .sources import Sources

_MAPPINGS = {
    "cron_map": '{"@daily": "0 6 * * 1-5 Europe/Berlin", "@weekly": "off"}',
    "models": '{"sales.*": {"schedule": "0 6 * * *"}}',
    "rule": '{"schedule": "0 6 * * *"}',
    "retry": '{"max_attempts": 5}',
}

_MOST_CHARACTERS = 500


def shown(value: Any) -> str:
    """Returns a value as Python writes it, shortened where it is long, without secrets."""
    try:
        text = redacted(repr(masked(value)))
    except (RecursionError, ValueError):  # nested deeply; a number with thousands of digits
        return f"<{type(value).__name__}>"
    return _cut(text)


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}…"


def explain(problem: Any, sources: Sources, settings: Iterable[str]) -> str:
    """Returns one line for a value that cannot be used: its place, the value, what is accepted.

    Args:
        problem: One of pydantic's errors.
        sources: The sources of the settings.
        settings: The names of all settings.
    """
    path = tuple(part for part in problem["loc"] if part != "[key]")
    first, rest = path[0], path[1:]
    if problem["type"] == "extra_forbidden":
        if not rest:
            return f"{sources.place(first)} is not a setting. {nearest_setting(first, settings)}"
        accepted = ", ".join(RetryRule.model_fields if "retry" in path else ModelRule.model_fields)
    elif problem["type"] in {"dict_type", "model_type"}:
        what = "retry" if "retry" in rest else "rule" if rest else first
        accepted = f"a mapping such as {_MAPPINGS[what]}"
    else:
        accepted = problem["msg"].removeprefix("Value error, ")
    value = shown(problem["input"])
    if is_hidden(path, sources):
        accepted = accepted.replace(str(problem["input"]), HIDDEN)
        value = HIDDEN
    return f"{_cut(sources.place(*path))}={value} cannot be used. Accepted: {_cut(accepted)}"


def is_hidden(path: Keys, sources: Sources) -> bool:
    """Returns whether a key or the variable that a value is read from has the name of a secret."""
    keys = path if path[0] not in {"cron_map", "models"} else path[2:]  # patterns have any word
    variables = [
        reference.variable
        for start, reference in sources.references.items()
        if path[: len(start)] == start
    ]
    return any(is_secret(str(name)) for name in (*keys, *variables))
