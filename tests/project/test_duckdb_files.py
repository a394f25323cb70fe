"""The DuckDB files that a project opens, whichever gateway they belong to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from dagster_sqlmesh_automation.assets.lease.waiting import DuckDBFile
from dagster_sqlmesh_automation.assets.project.environment import read_environment
from dagster_sqlmesh_automation.assets.project.opening import duckdb_files, open_context
from dagster_sqlmesh_automation.config.errors import EnvironmentNotFound
from dagster_sqlmesh_automation.config.settings import AutomationSettings


def configured(folder: Path, gateways: dict[str, Any]) -> AutomationSettings:
    """A project that has nothing but gateways, the first of which is the default one."""
    config = {
        "gateways": gateways,
        "default_gateway": next(iter(gateways)),
        "model_defaults": {"dialect": "duckdb"},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return AutomationSettings(project=folder)


def duck(path: Path) -> dict[str, Any]:
    return {"type": "duckdb", "database": str(path)}


def files(settings: AutomationSettings) -> list[DuckDBFile]:
    with open_context(settings, load=False) as context:
        return duckdb_files(context)


def test_the_files_of_the_state_and_of_every_gateway(tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.duckdb" for name in ("first", "second", "state", "third")]
    first, second, state, third = paths
    settings = configured(
        tmp_path,
        {
            "main": {"connection": duck(first), "state_connection": duck(state)},
            "other": {"connection": duck(second)},
            "another": {"connection": duck(third)},
        },
    )
    assert files(settings) == [DuckDBFile(path) for path in paths]


def test_attached_catalogs_that_are_duckdb_files(tmp_path: Path) -> None:
    shop, raw, shared = (tmp_path / f"{name}.duckdb" for name in ("shop", "raw", "shared"))
    catalogs = {
        "shop": str(shop),
        "memory": ":memory:",
        "raw": {"type": "duckdb", "path": str(raw), "read_only": True},
        "shared": {"type": "duckdb", "path": str(shared), "read_only": True},
        "lite": {"type": "sqlite", "path": str(tmp_path / "lite.db")},
        "postgres": {"type": "postgres", "path": "dbname=shop host=127.0.0.1"},
    }
    settings = configured(
        tmp_path,
        {
            "main": {"connection": {"type": "duckdb", "catalogs": catalogs}},
            "writer": {"connection": duck(shared)},
        },
    )
    # What one gateway only reads and another one writes is written.
    assert files(settings) == [
        DuckDBFile(raw, read_only=True),
        DuckDBFile(shared),
        DuckDBFile(shop),
    ]


def test_looking_for_an_environment_makes_no_file_of_a_state_that_is_not_there(
    tmp_path: Path,
) -> None:
    tables, state = tmp_path / "tables.duckdb", tmp_path / "state.duckdb"
    settings = configured(
        tmp_path, {"main": {"connection": duck(tables), "state_connection": duck(state)}}
    )
    tables.touch()
    with open_context(settings, load=False) as context, pytest.raises(EnvironmentNotFound):
        read_environment(context, settings)
    assert not state.exists()
