"""A MariaDB server that dies in the middle of a model: the model is asked for again at once."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import projects
from support.executors import dagster_home
from support.mariadb import INSTALLED, MariaDB, running_mariadb
from support.schema import invoke
from support.warehouse import NEXT_DAY, PLANNED_AT

pytest.importorskip("pymysql", reason="SQLMesh's driver for MySQL is not installed")
pytestmark = pytest.mark.skipif(not INSTALLED, reason="no MariaDB server is installed")

MODEL = """
MODEL (name shop.slow, kind FULL, cron '@daily');
SELECT CAST(SLEEP(seconds) AS SIGNED) AS x FROM raw.pause
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MariaDB]:
    with running_mariadb(tmp_path / "mariadb") as server:
        server.query("CREATE DATABASE raw")
        server.query("CREATE TABLE raw.pause (seconds INT)")
        server.query("INSERT INTO raw.pause VALUES (0)")
        yield server


def planned(folder: Path, server: MariaDB) -> Path:
    """A project with one model in the server, and its state in a file."""
    (folder / "models").mkdir(parents=True)
    (folder / "models" / "slow.sql").write_text(MODEL)
    state = {"type": "duckdb", "database": str(folder / "state.duckdb")}
    gateway: dict[str, Any] = {"connection": server.sqlmesh, "state_connection": state}
    defaults = {"dialect": "mysql", "start": f"{PLANNED_AT - timedelta(days=2):%Y-%m-%d}"}
    config = {"gateways": {"main": gateway}, "default_gateway": "main", "model_defaults": defaults}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    projects.plan(folder, PLANNED_AT)
    return folder


def kill_in_the_middle(server: MariaDB) -> None:
    """Kills the server once the model's query runs there."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        running = server.query("SELECT info FROM information_schema.processlist")
        if any("SLEEP" in (query or "") for (query,) in running):
            break
        time.sleep(0.05)
    server.kill()


@pytest.mark.slow
def test_a_model_whose_server_dies_is_asked_for_again_at_once(
    tmp_path: Path, server: MariaDB
) -> None:
    project = planned(tmp_path / "project", server)
    home = dagster_home(tmp_path / "home")
    tick = ["tick", "--json", "--project", project, "--at", NEXT_DAY.isoformat()]
    server.query("UPDATE raw.pause SET seconds = 600")
    killer = threading.Thread(target=kill_in_the_middle, args=[server])
    killer.start()
    result = invoke(*tick, DAGSTER_HOME=home)
    killer.join()
    assert result.exit_code == 1, result.output
    (model,) = json.loads(result.stdout)["models"]
    assert model["outcome"] == "failed", model

    server.start()
    server.query("UPDATE raw.pause SET seconds = 0")
    result = invoke(*tick, DAGSTER_HOME=home)
    (model,) = json.loads(result.stdout)["models"]
    assert model["outcome"] == "executed", model
