"""Takes secrets out of texts, by the forms in which other programs write them.

What a message quotes from elsewhere may hold a password: a database's URL, a mapping that pydantic
refused, a line of a configuration. :mod:`...assets.project.secrets` knows values as well.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

HIDDEN = "***"
"""Stands where a secret stood."""

_SECRET = (
    r"passw|passphrase|(?<![a-z])pwd(?![a-z])|secret|token|credential|keyfile_json"
    r"|(?:private|api|access|account|shared|encryption)_?key|connection_?string"
)
SECRET_NAME = rf"[\w.-]{{0,60}}(?:{_SECRET})[\w-]{{0,60}}"
"""A regular expression of names whose values are secrets; upper and lower case alike."""

_NAME = re.compile(SECRET_NAME, re.IGNORECASE)
_QUOTED = r"'(?:[^'\\\n]|\\.)*'|\"(?:[^\"\\\n]|\\.)*\""

_FORMS = (
    # postgresql://user:password@host; the password may hold an @ as well.
    (
        re.compile(
            r"([a-z][\w+.-]*:/{1,3}[^\s:/@'\"]*:)(?!password@)[^\s'\"]+(?=@)", re.IGNORECASE
        ),
        rf"\1{HIDDEN}",
    ),
    # pydantic's errors, which cut long values in their middle.
    (re.compile(r"input_value=.*?, (?=input_type=\w+\])", re.DOTALL), ""),
    # password=…, as in connection strings and calls.
    (
        re.compile(rf"({SECRET_NAME}\s?=\s?)(?:{_QUOTED}|[^\s,;&)'\"\]}}]+)", re.IGNORECASE),
        rf"\1{HIDDEN}",
    ),
    # 'password': '…', as Python and JSON write it.
    (
        re.compile(
            rf"((['\"]){SECRET_NAME}\2[ \t]*:[ \t]*)(?:{_QUOTED}|\[[^\]]*\]|\{{[^}}]*\}}|\d+)",
            re.IGNORECASE,
        ),
        rf"\1{HIDDEN}",
    ),
    # password: …, as a line of YAML.
    (
        re.compile(rf"(?m)^([\s>-]*{SECRET_NAME}:[ \t]+)\S.*$", re.IGNORECASE),
        rf"\1{HIDDEN}",
    ),
)


def is_secret(name: str) -> bool:
    """Returns whether the value of a setting or variable with this name is a secret."""
    return _NAME.search(name) is not None


def redacted(text: str) -> str:
    """Returns a text without the secrets that its form tells."""
    for form, instead in _FORMS:
        text = form.sub(instead, text)
    return text


def masked(value: Any) -> Any:
    """Returns a value, nested as settings are, without what stands under a secret's name."""
    if isinstance(value, Mapping):
        return {key: HIDDEN if is_secret(str(key)) else masked(part) for key, part in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [masked(part) for part in value]
    return value
