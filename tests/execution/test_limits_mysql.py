"""A batch that takes too long on MySQL, for which MariaDB stands here."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest
import yaml
from support import projects
from support.mariadb import INSTALLED, MariaDB, running_mariadb
from support.ticks import Automation
from support.warehouse import NEXT_DAY, PLANNED_AT

pytest.importorskip("pymysql", reason="SQLMesh's driver for MySQL is not installed")
pytestmark = pytest.mark.skipif(not INSTALLED, reason="no MariaDB server is installed")

MODEL = """
MODEL (name shop.endless, kind FULL, cron '@daily');
SELECT CAST(SUM(a.x * b.x + c.x) AS SIGNED) AS x
FROM raw.endless AS a, raw.endless AS b, raw.endless AS c
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MariaDB]:
    with running_mariadb(tmp_path / "mariadb") as server:
        server.query("CREATE DATABASE raw")
        server.query("CREATE TABLE raw.endless (x BIGINT)")
        yield server


@pytest.mark.slow
def test_a_query_that_takes_too_long_is_killed_and_its_session_is_not(
    tmp_path: Path, server: MariaDB, instance: dg.DagsterInstance
) -> None:
    project = tmp_path / "project"
    (project / "models").mkdir(parents=True)
    (project / "models" / "endless.sql").write_text(MODEL)
    gateway = {"connection": server.sqlmesh}
    defaults = {"dialect": "mysql", "start": f"{PLANNED_AT - timedelta(days=2):%Y-%m-%d}"}
    config = {"gateways": {"main": gateway}, "default_gateway": "main", "model_defaults": defaults}
    (project / "config.yaml").write_text(yaml.safe_dump(config))
    projects.plan(project, PLANNED_AT)
    server.query("INSERT INTO raw.endless SELECT seq FROM mysql.seq_1_to_100000")
    automation = Automation.of(project, instance, models={"*": {"max_seconds": 1}})
    _, run = automation.tick_and_run(NEXT_DAY)
    assert run is not None
    outcome = run.by_name()["shop.endless"]
    assert outcome.error == "it ran longer than max_seconds=1 (MODELS *) and was cancelled"
    ((running,),) = server.query(
        "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE '%raw.endless AS a%'"
    )
    assert running == 1  # the question itself
