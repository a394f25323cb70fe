"""DuckDB files at relative paths: another working directory is told, and makes no second file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support import projects
from support.postgres import Database
from support.schema import invoke

MODEL = "MODEL (name shop.orders, kind FULL, cron '@daily');\nSELECT 1 AS id\n"
CONFIG = """\
gateways:
  main:
    connection: {type: duckdb, database: warehouse.duckdb}
default_gateway: main
model_defaults: {dialect: duckdb, start: 2026-10-01}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with a relative path, not planned."""
    folder = tmp_path / "project"
    (folder / "models").mkdir(parents=True)
    (folder / "models" / "orders.sql").write_text(MODEL)
    (folder / "config.yaml").write_text(CONFIG)
    return folder


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    (tmp_path / "elsewhere").mkdir()
    return tmp_path / "elsewhere"


def refused(*arguments: str | Path) -> str:
    result = invoke(*arguments)
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)
    return result.stderr or result.stdout


@pytest.mark.parametrize("command", ["status", "tick", "doctor"])
def test_another_working_directory_is_named_with_the_file_and_makes_none(
    project: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(project)
    projects.plan(project, projects.PLANNED_AT)
    assert (project / "warehouse.duckdb").is_file()
    monkeypatch.chdir(elsewhere)
    message = refused(command, "--project", project)
    assert f"there is no file {elsewhere / 'warehouse.duckdb'}" in message
    assert "the relative path warehouse.duckdb" in message
    assert f"this process works in {elsewhere}" in message
    assert "Make it absolute" in message
    assert "If nobody has planned it yet, create it with: sqlmesh" in message
    assert not list(elsewhere.glob("*.duckdb*[!k]"))


def test_doctor_warns_of_a_relative_path_where_it_works(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    projects.plan(project, projects.PLANNED_AT)
    result = invoke("doctor", "--json", "--project", project)
    (finding,) = (f for f in json.loads(result.stdout)["findings"] if "relative path" in f["found"])
    assert finding["level"] == "advice"
    assert "warehouse.duckdb" in finding["found"]
    assert f"this process works in {project}" in finding["found"]
    assert finding["do"].startswith("Make it absolute")


def test_doctor_says_nothing_of_absolute_paths(example: Path) -> None:
    findings = json.loads(invoke("doctor", "--json", "--project", example).stdout)["findings"]
    assert not [f for f in findings if "relative path" in f["found"]]


def test_tables_in_a_file_that_is_not_there_are_not_begun_anew(
    project: Path, elsewhere: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLMesh's state is found from everywhere, and would fill a second database."""
    state = json.dumps(database.sqlmesh)
    (project / "config.yaml").write_text(
        CONFIG.replace("default_gateway", f"    state_connection: {state}\ndefault_gateway")
    )
    monkeypatch.chdir(project)
    projects.plan(project, projects.PLANNED_AT)
    monkeypatch.chdir(elsewhere)
    message = refused("tick", "--project", project)
    assert f"There is no file {elsewhere / 'warehouse.duckdb'}, the DuckDB database with" in message
    assert f"this process works in {elsewhere}" in message
    assert not list(elsewhere.glob("*.duckdb*[!k]"))


def test_the_command_that_creates_an_environment_names_the_gateway(project: Path) -> None:
    (project / "config.yaml").write_text(CONFIG.replace("warehouse", f"{project}/warehouse"))
    message = refused("status", "--project", project, "--gateway", "main")
    assert message.endswith(
        f"does not exist in the state of {project}: there is no file {project}/warehouse.duckdb. "
        f"Create it with: sqlmesh --gateway main -p {project} plan prod\n"
    )
