"""Counts what SQLAlchemy does in this process: exact, and the same on every machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import dagster as dg
from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.pool import Pool

_OF_THE_SCHEMA = ("table_info", "table_xinfo", "sqlite_master", "pg_catalog", "secondary_indexes")


@dataclass
class Queries:
    """What has been done so far.

    Attributes:
        connections: How many connections were opened.
        statements: The statements, in order.
    """

    connections: int = 0
    statements: list[str] = field(default_factory=list)

    @property
    def of_the_schema(self) -> list[str]:
        """The statements that ask what tables, columns and finished migrations there are."""
        return [each for each in self.statements if any(name in each for name in _OF_THE_SCHEMA)]


@contextmanager
def counting_queries() -> Iterator[Queries]:
    """Counts until its end."""
    queries = Queries()

    def connected(*_: object) -> None:
        queries.connections += 1

    def executing(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        queries.statements.append(statement)

    event.listen(Pool, "connect", connected)
    event.listen(Engine, "before_cursor_execute", executing)
    try:
        yield queries
    finally:
        event.remove(Pool, "connect", connected)
        event.remove(Engine, "before_cursor_execute", executing)


def run_chain(instance: dg.DagsterInstance, length: int) -> None:
    """Runs assets each of which reads the one before."""

    def made(number: int) -> dg.AssetsDefinition:
        @dg.asset(name=f"link_{number}", deps=[f"link_{number - 1}"] if number else [])
        def link() -> None: ...

        return link

    definitions = dg.Definitions(assets=[made(number) for number in range(length)])
    job = definitions.resolve_implicit_global_asset_job_def()
    assert job.execute_in_process(instance=instance).success
