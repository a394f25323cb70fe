"""One of several configurations in a project's ``config.py``, as ``sqlmesh --config NAME``."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest
from sqlmesh import Context
from sqlmesh.core.console import NoopConsole, set_console
from support.schema import invoke, tick_json

CONFIG = """\
from sqlmesh.core.config import Config, DuckDBConnectionConfig, GatewayConfig, ModelDefaultsConfig

def of(name):
    return Config(
        gateways={"local": GatewayConfig(connection=DuckDBConnectionConfig(database=f"{name}.db"))},
        model_defaults=ModelDefaultsConfig(dialect="duckdb", start="2026-10-01"),
        variables={"called": name},
    )

config = of("usual")
other = of("other")
no_config = 1
"""
MODEL = "MODEL (name shop.a, kind FULL, cron '@daily');\nSELECT @VAR('called') AS called"
AT = datetime(2026, 10, 14, tzinfo=UTC)
LATER = ("--at", "2026-10-15T00:05")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose configuration ``other`` alone has been planned."""
    folder = tmp_path_factory.mktemp("named")
    (folder / "models").mkdir()
    (folder / "config.py").write_text(CONFIG.replace("{name}.db", f"{folder}/{{name}}.db"))
    (folder / "models" / "a.sql").write_text(MODEL)
    set_console(NoopConsole())
    context = Context(paths=folder, config="other")
    context.plan("prod", execution_time=AT, auto_apply=True, no_prompts=True)
    context.close()
    return folder


def test_ticks_evaluate_what_the_named_configuration_says(project: Path) -> None:
    for at, isolation in (("2026-10-15T00:05", "thread"), ("2026-10-16T00:05", "process")):
        document = tick_json(
            project,
            "--at",
            at,
            SQLMESH_AUTOMATION_SQLMESH_CONFIG="other",
            SQLMESH_AUTOMATION_ISOLATION=isolation,
        )
        (model,) = document["models"]
        assert model["outcome"] == "executed", isolation
    with duckdb.connect(str(project / "other.db"), read_only=True) as connection:
        assert connection.execute("SELECT called FROM shop.a").fetchall() == [("other",)]
    assert not (project / "usual.db").exists()


def test_each_configuration_has_a_manifest_and_a_state_of_its_own(project: Path) -> None:
    prepared = [
        invoke("prepare", "--project", project, **variables).stdout.split()[-1]
        for variables in ({}, {"SQLMESH_AUTOMATION_SQLMESH_CONFIG": "other"})
    ]
    assert len(set(prepared)) == 2
    result = invoke("status", "--project", project, *LATER)
    assert result.exit_code == 2
    assert "environment 'prod' does not exist" in result.stderr


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param("nix", ["Config 'nix' was not found", "sqlmesh --config nix -p "], id="none"),
        pytest.param("no_config", ["needs to be a valid object"], id="of another type"),
        pytest.param("a-b", ["SQLMESH_AUTOMATION_SQLMESH_CONFIG='a-b'"], id="no name"),
    ],
)
def test_a_name_that_is_no_configuration_is_an_error(
    project: Path, name: str, expected: list[str]
) -> None:
    variables: dict[str, Any] = {"SQLMESH_AUTOMATION_SQLMESH_CONFIG": name}
    result = invoke("status", "--project", project, *LATER, **variables)
    assert result.exit_code == 2
    for text in expected:
        assert text in result.stderr
