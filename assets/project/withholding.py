"""What texts and errors about a project hold back before Dagster stores or shows them."""

from __future__ import annotations

import re
import traceback
from pathlib import Path

from ...config.settings import AutomationSettings
from .outages import chain
from .secrets import Secrets

_STATEMENT = re.compile(
    r"\bLINE \d+:|\[SQL:|== SQL"
    r"|\b(?:SELECT|INSERT\s+(?:INTO|OVERWRITE)|MERGE\s+INTO|DELETE\s+FROM|TRUNCATE\s+TABLE"
    r"|UPDATE\s+\S+\s+SET|CREATE\s+(?:OR\s+REPLACE\s+)?(?:TEMP\w*\s+)?(?:TABLE|VIEW)"
    r"|WITH\s+\S+\s+AS)\b",
    re.IGNORECASE,
)
_LITERAL = re.compile(r"'[^'\n]*'")

_OF_PYTHON = re.compile(r"\s*[A-Za-z_][\w.]*(?:Error|Exception): ")

_OF_DATABASES = {"Error", "DatabaseError", "SqlglotError", "SQLMeshError"}
"""Classes of errors that quote SQL: after PEP 249, and those of the parser and of SQLMesh."""


class Withholding:
    """Takes out of texts what the settings keep from Dagster.

    That are the project's secrets; and rendered SQL, if no description shows any.

    Args:
        settings: The project, and how much SQL is shown.
    """

    def __init__(self, settings: AutomationSettings) -> None:
        self._projects = tuple(settings.projects)
        self._secrets = Secrets(settings.projects)
        self.hides_sql = not settings.description_sql_characters

    def text(self, text: str) -> str:
        """Returns what may be shown of a text."""
        return self._secrets.redact(without_sql(text) if self.hides_sql else text)

    def sql(self, sql: str | None) -> str | None:
        """Returns what may be shown of a statement."""
        return None if sql is None or self.hides_sql else self._secrets.redact_secrets(sql)

    def cause(self, error: BaseException) -> BaseException | None:
        """Returns an error if all of it may be shown, with its traceback and what it comes from."""
        shown = "".join(traceback.format_exception(error))
        quotes_sql = any(
            _OF_DATABASES & {kind.__name__ for kind in type(link).__mro__} for link in chain(error)
        )
        hidden = self._secrets.redact(shown) != shown or (self.hides_sql and quotes_sql)
        return None if hidden else error

    def story(self, error: BaseException) -> str:
        """Returns in words what an error and its causes say, for where these are not shown."""
        messages: list[str] = []
        for link in chain(error):
            message = self.text(str(link).strip())
            # SQLMesh's own error says what pydantic's said.
            is_told = messages and type(link).__name__ == "ValidationError"
            if not is_told and not any(message in earlier for earlier in messages):
                messages.append(message)
        return ": ".join(messages) + self._place(error)

    def _place(self, error: BaseException) -> str:
        """Returns the line of the projects' own code that raised an error, if any did."""
        places = [
            f" ({Path(frame.filename).relative_to(project)}, line {frame.lineno})"
            for link in chain(error)
            for frame in traceback.extract_tb(link.__traceback__)
            for project in self._projects
            if Path(frame.filename).is_relative_to(project)
        ]
        return places[-1] if places else ""


def without_sql(text: str) -> str:
    """Returns of a text the first line, and those on which Python names an error.

    Each ends before the first statement, and literals are left out: databases quote both in what
    they say about a statement, on lines of their own or not.
    """
    first, *others = text.strip().splitlines() or [""]
    lines = [first, *(line for line in others if _OF_PYTHON.match(line))]
    shown = " ".join(_without_statement(line).strip() for line in lines)
    return f"{shown} …" if len(lines) <= len(others) and not shown.endswith("…") else shown


def _without_statement(line: str) -> str:
    before = _LITERAL.sub("'…'", _STATEMENT.split(line, maxsplit=1)[0])
    return before if _STATEMENT.search(line) is None else f"{before.rstrip()} …"
