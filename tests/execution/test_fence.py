"""A run that has lost its lease in mid-batch writes nothing more, and nothing is there twice."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.fence import cases, takes_over
from support.postgres import Server

MODELS = ("events", "customers", "totals", "journal")
SHORT = {
    ("journal", "unaware", "one"),
    ("journal", "stopped", "two"),
    ("events", "stopped", "one"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("model", "first_run", "databases"), cases(SHORT, MODELS, ("one", "two")))
def test_whoever_takes_over_ends_the_writers_before_it(
    tmp_path: Path, postgres_server: Server, model: str, first_run: str, databases: str
) -> None:
    database = postgres_server.database()
    state = postgres_server.database() if databases == "two" else database
    takes_over(tmp_path, database, state, model, stopped=first_run == "stopped")
