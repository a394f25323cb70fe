"""A run that has lost its lease in mid-batch writes nothing more, and nothing is there twice."""

from __future__ import annotations

import os
import signal
from datetime import timedelta
from pathlib import Path

import pytest
from support.agreement import disagreements, tick_until_idle
from support.executors import Launch, dagster_home
from support.fence import (
    DONE,
    MODELS as GATED,
    ROWS,
    PostgresGate,
    cases,
    has_done,
    takes_over,
)
from support.postgres import Server, running_server
from support.warehouse import NEXT_DAY, PLANNED_AT, warehouse

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


@pytest.mark.campaign
@pytest.mark.parametrize("first_run", ["unaware", "stopped"])
@pytest.mark.parametrize("model", MODELS)
def test_a_server_that_restarts_in_mid_batch_while_a_second_run_waits(
    tmp_path: Path, model: str, first_run: str
) -> None:
    """Both runs have lost their leases, and say so; the next ticks do what is left, once."""
    home = dagster_home(tmp_path / "home")
    with running_server() as server:
        database = server.database()
        shop = warehouse(tmp_path / "project", database, models=GATED, raw=PostgresGate.raw)
        with (
            PostgresGate(shop, model) as gate,
            Launch(shop.project, home, "in_process", at=NEXT_DAY) as first,
            Launch(shop.project, home, "in_process", at=NEXT_DAY, barrier=tmp_path) as second,
        ):
            first.wait_for(gate.waiting)
            (tmp_path / "open").touch()
            second.wait_for(lambda: f"being evaluated by run {first.run_id}" in second.told())
            first.wait_for(lambda: has_done(first, model, DONE[model]))
            if first_run == "stopped":
                os.killpg(first.process.pid, signal.SIGSTOP)
            server.stop()
            server.start()
            for launch in (second, first):
                if launch is first and first_run == "stopped":
                    os.killpg(first.process.pid, signal.SIGCONT)
                assert not launch.finish().success, launch.told()
                assert "lease was lost" in launch.told()
            assert second.run.outcomes == {}
            # Without a try of its own, a model is held for a minute.
            tick_until_idle(shop, home, NEXT_DAY + timedelta(minutes=5))
            assert disagreements(first.instance, shop, PLANNED_AT) == []
        rows = {name: shop.query(f"SELECT COUNT(*) FROM shop.{name}")[0][0] for name in ROWS}
    assert rows == ROWS
