"""A run that has lost its lease in mid-batch writes nothing more, and nothing is there twice."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from support.executors import Launch, dagster_home
from support.postgres import Server
from support.warehouse import JOURNAL, NEXT_DAY, Warehouse, warehouse

LOCK = 4711
"""The advisory lock at which a model waits in mid-statement."""

RAW = (
    "CREATE TABLE raw.gated (model TEXT)",
    f"""
    CREATE FUNCTION raw.gate(wanted TEXT) RETURNS INT LANGUAGE plpgsql AS $$
    BEGIN
      IF EXISTS (SELECT 1 FROM raw.gated WHERE model = wanted) THEN
        PERFORM pg_advisory_lock_shared({LOCK});
        PERFORM pg_advisory_unlock_shared({LOCK});
      END IF;
      RETURN 0;
    END $$
    """,
)
MODELS = {
    path: text.replace("{fail}", f"raw.gate('{Path(path).stem}')") for path, text in JOURNAL.items()
}
ROWS = {"events": 160, "customers": 50, "totals": 3, "best": 3, "journal": 160}
"""Eight days of twenty events each."""
DONE = {
    "events": set(),
    "customers": {"shop.events", "shop.totals", "shop.best", "shop.journal"},
    "totals": {"shop.events", "shop.customers", "shop.journal"},
    "journal": {"shop.events", "shop.customers", "shop.totals", "shop.best"},
}
"""What has its outcome while a model waits at the gate."""


class Gate:
    """Has a model wait in mid-statement until it is opened; a context manager."""

    def __init__(self, shop: Warehouse, model: str) -> None:
        assert shop.database is not None
        self._shop, self._model = shop, model
        self._keeper = shop.database.connect()

    def __enter__(self) -> Gate:
        self._shop.query(f"INSERT INTO raw.gated VALUES ('{self._model}')")
        with self._keeper.cursor() as cursor:
            cursor.execute(f"SELECT pg_advisory_lock({LOCK})")
        return self

    def __exit__(self, *error: object) -> None:
        self.open()

    def open(self) -> None:
        self._keeper.close()

    def waiting(self) -> set[int]:
        """The server's processes that wait at it."""
        waiting = self._shop.query(
            f"SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = {LOCK} "
            "AND NOT granted"
        )
        return {pid for (pid,) in waiting}


def cases() -> Iterator[Any]:
    """Every kind, on one server database and on two, the first run stopped or not."""
    short = {
        ("journal", "unaware", "one"),
        ("journal", "stopped", "two"),
        ("events", "stopped", "one"),
    }
    for case in product(
        ("events", "customers", "totals", "journal"), ("unaware", "stopped"), ("one", "two")
    ):
        yield pytest.param(*case, marks=() if case in short else pytest.mark.campaign)


@pytest.mark.slow
@pytest.mark.parametrize(("model", "first_run", "databases"), cases())
def test_whoever_takes_over_ends_the_writers_before_it(
    tmp_path: Path, postgres_server: Server, model: str, first_run: str, databases: str
) -> None:
    database = postgres_server.database()
    state = postgres_server.database() if databases == "two" else database
    shop = warehouse(tmp_path / "project", database, state=state, models=MODELS, raw=RAW)
    stopped = first_run == "stopped"
    home = dagster_home(tmp_path / "home")
    with Gate(shop, model) as gate, Launch(shop.project, home, "in_process", at=NEXT_DAY) as first:
        first.wait_for(gate.waiting)
        # What is written and not recorded when the lease is lost is evaluated again: not for this.
        first.wait_for(lambda: DONE[model] <= {*first.run.by_name()})
        writers = gate.waiting()
        if stopped:
            first.process.send_signal(signal.SIGSTOP)
        assert state.drop_sessions(f"%automation run {first.run_id}") == 1
        with Launch(shop.project, home, "in_process", at=NEXT_DAY) as second:
            second.wait_for(lambda: gate.waiting() - writers)
            gate.open()
            done = second.finish()
            assert done.success, second.told()
        if stopped:
            first.process.send_signal(signal.SIGCONT)
        lost = first.finish()
        told = first.told()
    rows = {name: shop.query(f"SELECT COUNT(*) FROM shop.{name}")[0][0] for name in ROWS}
    assert rows == ROWS
    assert not lost.success
    assert {outcome.status.value for outcome in lost.outcomes.values()} <= {"executed"}
    assert "lease was lost" in told
