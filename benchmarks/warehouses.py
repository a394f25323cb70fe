"""Generates projects and plans them once; every sample gets a copy that nobody has run on."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

import dagster as dg
import yaml
from generator import Design, generate_project
from support import postgres

from dagster_sqlmesh_automation import AutomationSettings
from dagster_sqlmesh_automation.automation.definitions import Location

BACKENDS = ("duckdb", "postgres")
"""With ``duckdb`` Dagster stores in SQLite; with ``postgres`` all three are in PostgreSQL."""

DAILY = (("@daily", None),)


class Storage(StrEnum):
    """Which classes store for Dagster; the value is how tables name them."""

    KEPT = "kept connections"
    """This package's, :mod:`dagster_sqlmesh_automation.storage`."""

    OWN = "Dagster's own storage"


def yesterday() -> datetime:
    """Noon of the day before: what is daily and was planned then is due now, once."""
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return today - timedelta(hours=12)


@dataclass(frozen=True)
class Warehouse:
    """A planned project, with all its models due.

    Attributes:
        folder: Holds the originals and the copy.
        server: The PostgreSQL server that they are on; ``None`` if they are files.
    """

    folder: Path
    server: postgres.Server | None

    def fresh(self, storage: Storage = Storage.OWN) -> Mapping[str, str]:
        """Makes a new copy of the project and an empty Dagster home; returns their variables."""
        for name in ("project", "home"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
            shutil.copytree(self.folder / f"planned_{name}", self.folder / name)
        if self.server is not None:
            for name in ("warehouse", "dagster"):
                renew(self.server, name, f"planned_{name}")
        _configure_storage(self.folder / "home", self.server, storage)
        Location(AutomationSettings(project=self.folder / "project"))  # prepares the manifest
        return self.variables

    @property
    def variables(self) -> dict[str, str]:
        """The variables that tell the programs where the copy is."""
        project = str(self.folder / "project")
        return {
            "PROJECT": project,
            "SQLMESH_AUTOMATION_PROJECT": project,
            "DAGSTER_HOME": str(self.folder / "home"),
        }


@contextmanager
def warehouse(
    folder: Path,
    models: int,
    *,
    server: postgres.Server | None = None,
    empty: bool = False,
    **options: Any,
) -> Iterator[Warehouse]:
    """Generates and plans a project.

    Args:
        folder: The folder for the project's files; removed at the end.
        models: How many models the project has.
        empty: Whether the plan only records the intervals, which is all that ticks and loads read.
        server: PostgreSQL for SQLMesh and for Dagster; if ``None``, DuckDB and SQLite.
        options: Attributes of :class:`.Design`.
    """
    folder.mkdir(parents=True)
    try:
        _prepare(folder, models, server, empty, options)
        yield Warehouse(folder, server)
    finally:
        shutil.rmtree(folder)


def _prepare(
    folder: Path, models: int, server: postgres.Server | None, empty: bool, options: dict[str, Any]
) -> None:
    project, home = folder / "project", folder / "home"
    connection = {"type": "duckdb", "database": str(project / "warehouse.duckdb")}
    if server is not None:
        renew(server, "warehouse")
        renew(server, "dagster")
        connection = dict(server.named("warehouse").sqlmesh)
    start = f"{yesterday() - timedelta(days=1):%Y-%m-%d}"
    design = Design(crons=DAILY, start=start, extras=(), connection=connection, **options)
    generate_project(project, models, design)
    plan(project, yesterday(), empty=empty)
    if design.seconds:
        _use_tasks(project / "config.yaml", 4)
    home.mkdir()
    _configure_storage(home, server, Storage.OWN)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        instance.get_runs_count()
    for original in (project, home):
        original.rename(folder / f"planned_{original.name}")
    if server is not None:
        for name in ("warehouse", "dagster"):
            renew(server, f"planned_{name}", name)


def _configure_storage(home: Path, server: postgres.Server | None, storage: Storage) -> None:
    if server is None:
        name, config = "sqlite", {"base_dir": str(home)}
    else:
        name, config = "postgres", {"postgres_url": server.named("dagster").url}
    content: dict[str, Any] = {"telemetry": {"enabled": False}, "storage": {name: config}}
    if storage is Storage.KEPT:
        content["storage"] = {
            "custom": {
                "module": "dagster_sqlmesh_automation.storage",
                "class": f"Pooled{name.capitalize()}Storage",
                "config": config,
            }
        }
    (home / "dagster.yaml").write_text(yaml.safe_dump(content))


def _use_tasks(config: Path, tasks: int) -> None:
    # Not for the plan: with several tasks SQLMesh 0.236 lists schemas of DuckDB on one connection
    # at once, and fails.
    content = yaml.safe_load(config.read_text())
    content["gateways"]["main"]["connection"]["concurrent_tasks"] = tasks
    config.write_text(yaml.safe_dump(content))


def plan(project: Path, at: datetime, *, empty: bool = False) -> None:
    """Plans and applies production as it was at a moment."""
    from sqlmesh import Context
    from sqlmesh.core.console import NoopConsole, set_console

    set_console(NoopConsole())
    context = Context(paths=[project])
    context.console = NoopConsole()
    context.plan("prod", execution_time=at, auto_apply=True, no_prompts=True, empty_backfill=empty)
    context.close()


def renew(server: postgres.Server, name: str, template: str | None = None) -> None:
    """Makes a database anew, empty or as a copy."""
    database = server.named(postgres.USER)
    database.query(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    database.query(f"CREATE DATABASE {name}" + (f" TEMPLATE {template}" if template else ""))
