"""A signal that raises on the command line: status, explain, tick, doctor, and their exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.outcome_helpers import RAW_DAYS, small_project
from support.schema import invoke, problems

SIGNAL = """\
from sqlmesh import signal


@signal()
def loaded(batch, context):
    return bool(context.engine_adapter.fetchone("SELECT 1 / until FROM raw.loaded")) or True
"""
FULL = "MODEL (name tiny.{name}, kind FULL, cron '@daily' {more}); SELECT {columns}"
FILES = {
    "signals/__init__.py": SIGNAL,
    "models/held.sql": FULL.format(name="held", more=", signals (loaded())", columns="1 AS x"),
    "models/reader.sql": FULL.format(name="reader", more="", columns="x FROM tiny.held"),
    "models/other.sql": FULL.format(name="other", more="", columns="1 AS x"),
}
SAYS = (
    "failed: signal loaded: CatalogException: Catalog Error: Table with name loaded does not exist"
)
HELD = f"held: upstream tiny.held {SAYS}"
AT = ("--at", "2026-10-15T00:05")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The signal reads a table that is gone since the plan."""
    import duckdb

    project = small_project(
        tmp_path / "small", FILES, [RAW_DAYS, "CREATE TABLE raw.loaded AS SELECT 1 AS until"]
    )
    with duckdb.connect(str(project / "small.duckdb")) as connection:
        connection.execute("DROP TABLE raw.loaded")
    return project


def test_status_and_explain_say_what_failed_and_what_waits_for_it(project: Path) -> None:
    status = invoke("status", "--project", project, *AT)
    assert status.exit_code == 0
    assert SAYS in status.stdout
    assert HELD in status.stdout

    explained = invoke("explain", "tiny.held", "--project", project, *AT)
    assert explained.exit_code == 0
    assert f"no  due in SQLMesh (@daily): {SAYS}" in explained.stdout
    document = json.loads(
        invoke("explain", "tiny.reader", "--project", project, "--json", *AT).stdout
    )
    assert document["reason"].startswith(HELD)
    assert document["upstream"][0]["decision"].startswith(SAYS)


def test_tick_runs_all_others_and_exits_as_where_a_model_failed(project: Path) -> None:
    result = invoke("tick", "--json", "--project", project, *AT)

    assert result.exit_code == 1, result.output
    document = json.loads(result.stdout)
    assert problems(document) == []
    models = {model["model"]: model for model in document["models"]}
    assert models["tiny.other"]["outcome"] == "executed"
    assert (models["tiny.held"]["due"], models["tiny.held"]["requested"]) == (True, False)
    assert f"failed: {models['tiny.held']['error']}".startswith(SAYS)
    assert models["tiny.reader"]["reason"].startswith(HELD)
    assert models["tiny.reader"]["error"] is None

    again = invoke("tick", "--project", project, *AT)
    assert again.exit_code == 1
    assert f"all held: tiny.held: {SAYS}" in again.stdout


def test_doctor_names_it_with_exit_code_1(project: Path) -> None:
    result = invoke("doctor", "--project", project, "--json")

    assert result.exit_code == 1, result.output
    (finding,) = [f for f in json.loads(result.stdout)["findings"] if SAYS in f["found"]]
    assert finding["level"] == "problem"
    assert "it is not requested while that is so, nor 1 due that reads it" in finding["found"]
