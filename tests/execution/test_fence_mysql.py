"""The same where the warehouse is on MySQL, for which MariaDB stands here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.fence import cases, takes_over
from support.mariadb import INSTALLED, MariaDB, running_mariadb
from support.postgres import Database

pytest.importorskip("pymysql", reason="SQLMesh's driver for MySQL is not installed")

pytestmark = pytest.mark.skipif(not INSTALLED, reason="no MariaDB server is installed")

MODELS = ("events", "totals", "journal")
STATES = ("mysql", "postgres")
SHORT = {("journal", "stopped", "mysql"), ("events", "unaware", "postgres")}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MariaDB]:
    """A server of its own: what a project makes there has the same name in each."""
    with running_mariadb(tmp_path / "mariadb") as server:
        yield server


@pytest.mark.slow
@pytest.mark.parametrize(("model", "first_run", "state"), cases(SHORT, MODELS, STATES))
def test_whoever_takes_over_ends_the_writers_before_it(
    tmp_path: Path, server: MariaDB, database: Database, model: str, first_run: str, state: str
) -> None:
    takes_over(
        tmp_path,
        server,
        server if state == "mysql" else database,
        model,
        stopped=first_run == "stopped",
    )
