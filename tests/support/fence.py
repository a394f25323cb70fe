"""A run that loses its lease in mid-batch, and another one that takes its models over."""

from __future__ import annotations

import os
import signal
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from .executors import Launch, dagster_home
from .mariadb import MariaDB
from .postgres import Database
from .warehouse import JOURNAL, NEXT_DAY, Base, Warehouse, warehouse

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


class Gate(ABC):
    """Has a model wait in mid-statement until it is opened; a context manager.

    Attributes:
        raw: What it needs in the warehouse.
        models: The models, by file.
    """

    raw: Sequence[str]
    models: Mapping[str, str] = MODELS
    _lock: str

    def __init__(self, shop: Warehouse, model: str) -> None:
        assert shop.database is not None
        self._shop, self._model = shop, model
        self._keeper = shop.database.connect()

    def __enter__(self) -> Gate:
        self._shop.query(f"INSERT INTO raw.gated VALUES ('{self._model}')")
        with self._keeper.cursor() as cursor:
            cursor.execute(self._lock)
        return self

    def __exit__(self, *error: object) -> None:
        self.open()

    def open(self) -> None:
        """Lets whoever waits at it go on."""
        if self._keeper is not None:
            self._keeper.close()
        self._keeper = None

    @abstractmethod
    def waiting(self) -> set[int]:
        """The server's sessions that wait at it."""


class PostgresGate(Gate):
    """An advisory lock."""

    raw = (
        "CREATE TABLE raw.gated (model TEXT)",
        """
        CREATE FUNCTION raw.gate(wanted TEXT) RETURNS INT LANGUAGE plpgsql AS $$
        BEGIN
          IF EXISTS (SELECT 1 FROM raw.gated WHERE model = wanted) THEN
            PERFORM pg_advisory_lock_shared(4711);
            PERFORM pg_advisory_unlock_shared(4711);
          END IF;
          RETURN 0;
        END $$
        """,
    )
    _lock = "SELECT pg_advisory_lock(4711)"

    def waiting(self) -> set[int]:
        waiting = self._shop.query(
            "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711 AND NOT granted"
        )
        return {pid for (pid,) in waiting}


class MariaDBGate(Gate):
    """A named lock."""

    # Two batches of a model at once are a deadlock of InnoDB's. And MariaDB shows the display width
    # of integers, to which SQLMesh casts then where a model has a key.
    models: Mapping[str, str] = {
        path: text.replace(", batch_size 2", "")
        for path, text in MODELS.items()
        if "customers" not in path
    }
    raw = (
        "CREATE TABLE raw.gated (model TEXT)",
        """
        CREATE FUNCTION raw.gate(wanted TEXT) RETURNS INT READS SQL DATA
        BEGIN
          IF EXISTS (SELECT 1 FROM raw.gated WHERE model = wanted) THEN
            DO GET_LOCK('gate', 3600);
            DO RELEASE_LOCK('gate');
          END IF;
          RETURN 0;
        END
        """,
    )
    _lock = "SELECT GET_LOCK('gate', 0)"

    def waiting(self) -> set[int]:
        waiting = self._shop.query(
            "SELECT id FROM information_schema.processlist WHERE state = 'User lock'"
        )
        return {number for (number,) in waiting}


def cases(
    short: set[tuple[str, str, str]], models: Sequence[str], servers: Sequence[str]
) -> Iterator[Any]:
    """Every kind of model, the first run stopped or not, on one server and on two.

    Args:
        short: Those that are no campaign.
        models: One of each kind.
        servers: Names for one of them and for two.
    """
    for case in product(models, ("unaware", "stopped"), servers):
        yield pytest.param(*case, marks=() if case in short else pytest.mark.campaign)


def takes_over(folder: Path, database: Base, state: Base, model: str, *, stopped: bool) -> None:
    """The first run's lease ends while a model of it runs, and a second run evaluates the rest.

    Nothing is there twice, nothing is lost, and the first run does not say that all is well.

    Args:
        folder: For the project and Dagster's home.
        database: The warehouse.
        state: Where SQLMesh's state is.
        model: The one that runs.
        stopped: Whether the first run's processes are stopped, so that it can do nothing about it.
    """
    kind = MariaDBGate if isinstance(database, MariaDB) else PostgresGate
    shop = warehouse(folder / "project", database, state=state, models=kind.models, raw=kind.raw)
    home = dagster_home(folder / "home")
    with kind(shop, model) as gate, Launch(shop.project, home, "in_process", at=NEXT_DAY) as first:
        first.wait_for(gate.waiting)
        # What is written and not recorded when the lease is lost is evaluated again: not for this.
        names = {f"shop.{Path(path).stem}" for path in kind.models}
        first.wait_for(lambda: has_done(first, model, DONE[model] & names))
        writers = gate.waiting()
        if stopped:
            os.killpg(first.process.pid, signal.SIGSTOP)
        end_lease(state, first.run_id)
        with Launch(shop.project, home, "in_process", at=NEXT_DAY) as second:
            second.wait_for(lambda: gate.waiting() - writers)
            gate.open()
            done = second.finish()
            assert done.success, second.told()
        if stopped:
            os.killpg(first.process.pid, signal.SIGCONT)
        lost = first.finish()
        told = first.told()
    expected = {name: count for name, count in ROWS.items() if f"shop.{name}" in names}
    rows = {name: shop.query(f"SELECT COUNT(*) FROM shop.{name}")[0][0] for name in expected}
    assert rows == expected
    assert not lost.success
    assert {outcome.status.value for outcome in lost.outcomes.values()} <= {"executed"}
    assert "lease was lost" in told


def has_done(launch: Launch, model: str, others: set[str]) -> bool:
    """Whether a run has done all that it can while a model waits.

    With the start of the model's step it has also written all that it has to say of the others:
    stopped while it writes, it would keep Dagster's storage from other runs.
    """
    starts = launch.run.events(dg.DagsterEventType.STEP_START)
    steps = {event.step_key for event in starts}
    return others <= {*launch.run.by_name()} and f"shop__{model}" in steps


def end_lease(state: Base, run_id: str) -> None:
    """Ends the session in which a run holds its lease."""
    if isinstance(state, Database):
        assert state.drop_sessions(f"%automation run {run_id}") == 1
    else:
        state.end_lease("sqlmesh", run_id)
