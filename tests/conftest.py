"""Fixtures: planned projects, Dagster instances, and a counter at SQLMesh's scheduler."""

from __future__ import annotations

import logging
import os

# Before anything imports SQLMesh or Dagster.
os.environ["SQLMESH__DISABLE_ANONYMIZED_ANALYTICS"] = "true"
os.environ["MAX_FORK_WORKERS"] = "1"
os.environ["DAGSTER_DISABLE_TELEMETRY"] = "yes"

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest
from support import counting, postgres, projects
from support.ticks import Automation

from dagster_sqlmesh_automation.assets.dagster_internals import DefinitionsLoadContext

ISOLATION = os.environ.get("TEST_ISOLATION")
"""Where SQLMesh executes in all tests, as ``make test-isolated`` says; where not given, where the
setting's default says."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leaves out what a test does to SQLMesh in this process, where SQLMesh is in another one."""
    for item in items:
        if ISOLATION == "process" and item.get_closest_marker("in_thread"):
            item.add_marker(pytest.mark.skip("it looks at SQLMesh in this process"))


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the machine reaches a test."""
    for variable in os.environ:
        if (
            variable.startswith(("SQLMESH_AUTOMATION_", "JAFFLE_SHOP_"))
            or variable == "DAGSTER_HOME"
        ):
            monkeypatch.delenv(variable)
    if ISOLATION:
        monkeypatch.setenv("SQLMESH_AUTOMATION_ISOLATION", ISOLATION)


@pytest.fixture(autouse=True)
def heard() -> Iterator[None]:
    """What a command of the command line switches off is off for the whole process."""
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(autouse=True)
def loaded_anew() -> Iterator[None]:
    """A run in this process leaves word for the next load that definitions are loaded again."""
    yield
    DefinitionsLoadContext.set(None)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def planned_example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, planned once for the session; copy it, do not change it."""
    return projects.planned_example(tmp_path_factory.mktemp("planned") / "jaffle_shop")


@pytest.fixture
def example(planned_example: Path, tmp_path: Path) -> Path:
    """A copy of the planned example that a test may change."""
    copy = tmp_path / "jaffle_shop"
    shutil.copytree(planned_example, copy, ignore=shutil.ignore_patterns("*.lock"))
    return copy


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """A Dagster instance in memory."""
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture
def automation(example: Path, instance: dg.DagsterInstance) -> Automation:
    """The example as a code location."""
    return Automation.of(example, instance)


@pytest.fixture
def executions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], int]]:
    """How often SQLMesh's scheduler has run since the test began, in this process and others."""
    log = tmp_path / "executions.log"
    monkeypatch.setenv("PYTHONPATH", str(counting.HOOK), prepend=os.pathsep)
    monkeypatch.setenv(counting.LOG_VARIABLE, str(log))
    with counting.counting(log):
        yield lambda: counting.count(log)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.Server]:
    """A PostgreSQL server for the session; do not stop it."""
    with postgres.running_server() as server:
        yield server


@pytest.fixture
def database(postgres_server: postgres.Server) -> postgres.Database:
    """A new database on it."""
    return postgres_server.database()
