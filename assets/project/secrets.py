"""The secrets that a project's files and the environment hold, to keep them out of texts.

They are read from the files as text, because they are needed where SQLMesh cannot load them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from ...config.redaction import HIDDEN, SECRET_NAME, is_secret, redacted
from .fingerprint import CONFIG_FILES, sources

_LEAST = 3
"""Shorter values stand in every text."""

_BOUNDED = 8
"""Shorter values are taken for the secret only where they stand as a word of their own."""

_SECRET_LINE = re.compile(rf"(?m)^(.*?{SECRET_NAME}['\"]?\]?[ \t]*[:=])(.*)$", re.IGNORECASE)
_PASSWORD_IN_URL = re.compile(r"://[^\s:/@'\"]*:([^\s'\"]+)@")
_TEMPLATE = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
_LOOKUP = re.compile(r"(?:environ(?:\.get)?|getenv|env_var)\s*[\[(]\s*['\"](\w+)['\"]")
_COMMENT = re.compile(r"(?:^|\s)#.*$")
_QUOTED = re.compile(r"'([^'\n]*)'|\"([^\"\n]*)\"")
_WORD = re.compile(r"[^\s,\[\]{}'\"]+")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]+")
_NAMING = frozenset({".py", ".yaml", ".yml"})
_NO_SECRETS = frozenset({"PWD", "OLDPWD"})  # the working directory
_PLAIN = frozenset({"true", "false", "none", "null"})


class Secrets:
    """What a project's files and the environment hold that no text about the project may.

    That is what stands in its configuration under the name of a secret, and the values of
    environment variables that have such a name or that it looks up there. A variable's name stands
    in place of its value.

    Args:
        projects: The folders of the projects, which may have anything in them.
    """

    def __init__(self, projects: Iterable[Path]) -> None:
        self._projects = tuple(projects)
        files = _Files(self._projects)
        values = dict.fromkeys(files.secrets, HIDDEN)
        for name in os.environ.keys() - _NO_SECRETS:
            if is_secret(name) or name in files.looked_up:
                values[os.environ[name]] = f"${name}"
        # A password that is the name of the user, say, would be missed from every text.
        values = {value: label for value, label in values.items() if value not in files.public}
        self.redact_secrets = _substitution(values)
        """Takes the secrets out of a text."""

        self.redact = _substitution({**self._named(), **values})
        """Also takes out the values of all variables that the project names, but for paths."""

    def _named(self) -> dict[str, str]:
        names = {name for text in _texts(_naming(self._projects)) for name in _NAME.findall(text)}
        return {
            value: f"${name}"
            for name in sorted(names & os.environ.keys() - _NO_SECRETS)
            if len(value := os.environ[name]) > _LEAST and not value.startswith(os.sep)
        }


def _substitution(values: Mapping[str, str]) -> Callable[[str], str]:
    longest_first = sorted(
        (value for value in values if len(value) >= _LEAST and value.lower() not in _PLAIN),
        key=len,
        reverse=True,
    )
    if not longest_first:
        return redacted
    pattern = re.compile("|".join(_pattern(value) for value in longest_first))
    return partial(_substituted, pattern, values)


def _substituted(pattern: re.Pattern[str], values: Mapping[str, str], text: str) -> str:
    return redacted(pattern.sub(lambda match: values[match[0]], text))


def _pattern(value: str) -> str:
    escaped = re.escape(value)
    return escaped if len(value) >= _BOUNDED else rf"(?<!\w){escaped}(?!\w)"


def _naming(projects: Iterable[Path]) -> Iterator[Path]:
    """Yields the files that may name environment variables, as far as folders can be read."""
    for project in projects:
        with suppress(OSError):
            yield from (file for file in sources(project) if file.suffix in _NAMING)


class _Files:
    """What the configuration files hold.

    Attributes:
        secrets: What stands under the names of secrets, as it is written and word by word.
        public: What stands under other names.
        looked_up: Names of the environment variables that stand under the names of secrets.
    """

    def __init__(self, projects: Iterable[Path]) -> None:
        self.secrets: set[str] = set()
        self.public: set[str] = set()
        self.looked_up: set[str] = set()
        for path in _configurations(projects):
            for text in _texts([path]):
                self._read(text, only_quoted=path.suffix == ".py")

    def _read(self, text: str, *, only_quoted: bool) -> None:
        self.secrets.update(_PASSWORD_IN_URL.findall(text))
        for line in _SECRET_LINE.finditer(text):
            rest = _COMMENT.sub("", line[2]).strip()
            if not rest or rest in {"|", ">", "[", "{", "("}:
                rest = _below(text, line)
            self.looked_up.update(_LOOKUP.findall(rest))
            rest = _LOOKUP.sub("", rest)
            self.secrets.update(first or second for first, second in _QUOTED.findall(rest))
            if not only_quoted:
                words = (word for word in _WORD.findall(rest) if not word.endswith(":"))
                self.secrets.update((rest, *words))
        with suppress(yaml.YAMLError, ValueError, RecursionError):
            # Python, or a file with a mistake, has only its lines.
            self._read_leaves(yaml.safe_load(_TEMPLATE.sub("", text)), self.public)

    def _read_leaves(self, node: Any, values: set[str]) -> None:
        if isinstance(node, dict):
            for key, value in node.items():
                # SQLMesh's personal configuration may set variables.
                hides = is_secret(str(key)) or key == "env_vars"
                self._read_leaves(value, self.secrets if hides else values)
        elif isinstance(node, list):
            for value in node:
                self._read_leaves(value, values)
        elif node is not None and not isinstance(node, bool):
            values.add(str(node))


def _configurations(projects: Iterable[Path]) -> Iterator[Path]:
    """Yields where SQLMesh, or dbt for it, reads connections and variables from."""
    names = (*CONFIG_FILES, ".env", "profiles.yml")
    yield from (project / name for project in projects for name in names)
    yield from (Path.home() / ".sqlmesh" / name for name in CONFIG_FILES)
    yield Path.home() / ".dbt" / "profiles.yml"


def _texts(paths: Iterable[Path]) -> Iterator[str]:
    for path in paths:
        with suppress(OSError):
            yield path.read_text(encoding="utf-8", errors="replace")


def _below(text: str, line: re.Match[str]) -> str:
    """Returns the lines that belong to a key without a value on its own line."""
    indent = len(line[1]) - len(line[1].lstrip())
    below = []
    for following in text[line.end() :].lstrip("\n").split("\n"):
        if following.strip() and len(following) - len(following.lstrip()) <= indent:
            break
        below.append(_COMMENT.sub("", following).strip().removeprefix("- "))
    return " ".join(below)
