"""Which of SQLMesh's model selections a person may write into a run's configuration."""

from __future__ import annotations

from collections.abc import Sequence

from ...config.errors import SelectionRefused


def check_selections(selections: Sequence[str]) -> None:
    """Refuses what SQLMesh would hand to a command, before SQLMesh sees any of it.

    SQLMesh puts what follows ``git:`` into the command line of ``git diff``, where
    ``--output=/path`` overwrites a file. What begins with a dash is an option to every command.

    Args:
        selections: Names, patterns and tags with SQLMesh's operators, as it takes them.

    Raises:
        SelectionRefused: One of them holds ``git:`` or something that begins with a dash, or is
            no selection.
    """
    for selection in selections:
        _check(f"({selection})", selection)
    # As SQLMesh itself joins them: nothing may come together that was apart.
    _check(" | ".join(f"({selection})" for selection in selections), ", ".join(selections))


def _check(expression: str, written: str) -> None:
    # SQLMesh's own parser sees what its selector will see, whatever the operators and spaces.
    from sqlglot import exp
    from sqlglot.errors import SqlglotError
    from sqlmesh.core.selector import Git, parse

    try:
        tree = parse(expression)
    except SqlglotError as error:
        raise SelectionRefused(written, f"cannot be read: {str(error)[:200]}") from error
    except RecursionError as error:
        raise SelectionRefused(written, "is nested too deeply") from error
    if tree.find(Git):
        raise SelectionRefused(written, "holds git:, which would run a command of git's")
    for name in tree.find_all(exp.Var):
        if name.this.lstrip("*").startswith("-"):
            raise SelectionRefused(written, f"holds {name.this!r}, which begins with a dash")
