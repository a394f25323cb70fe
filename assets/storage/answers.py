"""What Dagster's storages ask of their schema, asked until the answer is yes.

They ask whether a table is there for each materialization, whether columns are there and a
migration is done for the inputs of each step, and whether runs have columns of times at each look
at a run. On PostgreSQL the first of these takes a connection of its own. What is there does not go
away, so a yes is kept; a no is not, since ``dagster instance migrate`` may change it at any moment.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from sqlalchemy.engine import Connection

from ..dagster_internals import SqlEventLogStorage, SqlRunStorage


class _Answers:
    """The questions that have been answered with yes. Thread-safe: a set only grows."""

    def __init__(self) -> None:
        self._yes: set[Hashable] = set()

    def of(self, question: Hashable, ask: Callable[[], bool]) -> bool:
        """Returns the answer that is kept, or asks."""
        if question not in self._yes and ask():
            self._yes.add(question)
        return question in self._yes

    def forget(self) -> None:
        """Asks all again: the database is a new one."""
        self._yes = set()


class KeptEventLogAnswers(SqlEventLogStorage):
    """Goes before one of Dagster's event log storages, among the bases of ours."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._answers = _Answers()
        super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]

    def has_table(self, table_name: str) -> bool:
        """Whether a table is there."""
        ask: Any = super().has_table  # type: ignore[safe-super]  # of the other base
        return self._answers.of(("table", table_name), lambda: ask(table_name))

    def has_secondary_index(self, name: str) -> bool:
        """Whether a migration of data is done."""
        ask = super().has_secondary_index
        return self._answers.of(("migration", name), lambda: ask(name))

    def has_asset_key_col(self, column_name: str) -> bool:
        """Whether the table of assets has a column."""
        ask = super().has_asset_key_col
        return self._answers.of(("column", column_name), lambda: ask(column_name))

    def _has_asset_key_col_on_connection(self, conn: Connection, column_name: str) -> bool:
        ask = super()._has_asset_key_col_on_connection
        return self._answers.of(("column", column_name), lambda: ask(conn, column_name))


class KeptRunAnswers(SqlRunStorage):
    """Goes before one of Dagster's run storages, among the bases of ours."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._answers = _Answers()
        super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]

    def has_run_stats_index_cols(self) -> bool:
        """Whether the table of runs has columns for a run's start and end."""
        return self._answers.of("run times", super().has_run_stats_index_cols)

    def has_built_index(self, migration_name: str) -> bool:
        """Whether a migration of data is done."""
        ask = super().has_built_index
        return self._answers.of(("migration", migration_name), lambda: ask(migration_name))
