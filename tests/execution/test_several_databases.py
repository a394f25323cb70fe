"""A project with a gateway per model: each of its DuckDB files may be in use elsewhere."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from support import projects
from support.schema import held_open
from support.ticks import Automation
from support.warehouse import NEXT_DAY, PLANNED_AT

from dagster_sqlmesh_automation.assets.evaluation.plans import preview
from dagster_sqlmesh_automation.assets.lease.waiting import Wait
from dagster_sqlmesh_automation.config.errors import DatabaseLocked
from dagster_sqlmesh_automation.config.settings import AutomationSettings

FILES = ["state", "first", "second", "attached"]
MODELS = {
    "models/one.sql": "MODEL (name shop.one, kind FULL, cron '@daily'); SELECT 1 AS x",
    "models/two.sql": (
        "MODEL (name shop.two, kind FULL, cron '@daily', gateway other); SELECT 2 AS x"
    ),
}


def duck(path: Path) -> dict[str, Any]:
    return {"type": "duckdb", "database": str(path)}


def configure(folder: Path) -> None:
    """State in one file, tables in two more, and one that a gateway attaches."""
    paths = {name: folder / f"{name}.duckdb" for name in FILES}
    catalogs = {"second": str(paths["second"]), "attached": str(paths["attached"])}
    config = {
        "gateways": {
            "main": {"connection": duck(paths["first"]), "state_connection": duck(paths["state"])},
            "other": {"connection": {"type": "duckdb", "catalogs": catalogs}},
        },
        "default_gateway": "main",
        "gateway_managed_virtual_layer": True,
        "model_defaults": {"dialect": "duckdb", "start": f"{PLANNED_AT:%Y-%m-%d}"},
    }
    # The first catalog is the default one. Views lie where their tables do.
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("planned")
    (folder / "models").mkdir()
    for path, text in MODELS.items():
        (folder / path).write_text(text)
    configure(folder)
    projects.plan(folder, PLANNED_AT)
    return folder


@pytest.fixture
def project(planned: Path, tmp_path: Path) -> Path:
    folder = Path(shutil.copytree(planned, tmp_path / "project"))
    configure(folder)
    return folder


@contextmanager
def held_until_wanted(file: Path) -> Iterator[None]:
    """Another process has a file open until somebody has the lock beside it and waits for it."""
    with ExitStack() as holder:
        holder.enter_context(held_open(file))
        over = threading.Event()

        def watch() -> None:
            while not Path(f"{file}.lock.holder").exists() and not over.wait(0.05):
                pass
            over.wait(0.5)  # for an attempt to open it
            holder.close()

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()


def waited(instance: dg.DagsterInstance, run_id: str, file: Path) -> bool:
    """Whether a run says that it has waited for a file."""
    lines = [entry.message for entry in instance.all_logs(run_id)]
    return any(f"Waiting: {file.name}: " in line for line in lines)


@pytest.mark.parametrize("name", FILES)
def test_a_run_waits_for_a_file_of_any_gateway(
    project: Path, instance: dg.DagsterInstance, name: str
) -> None:
    automation, file = (
        Automation.of(project, instance, lease_timeout_seconds=20),
        project / f"{name}.duckdb",
    )
    tick = automation.tick(NEXT_DAY)
    assert tick.requested == {"shop/one", "second/shop/two"}
    (request,) = tick.run_requests
    with held_until_wanted(file):
        run = automation.execute(set(request.asset_selection or ()), request.tags)
    assert waited(instance, run.run_id, file), run.log
    assert run.success, run.log
    assert {outcome.status.value for outcome in run.by_name().values()} == {"executed"}


@pytest.mark.parametrize("name", FILES)
def test_a_tick_is_skipped_while_a_file_of_any_gateway_is_in_use(
    project: Path, instance: dg.DagsterInstance, name: str
) -> None:
    automation, file = (
        Automation.of(project, instance, lease_timeout_seconds=20),
        project / f"{name}.duckdb",
    )
    with (
        held_open(file) as pid,
        dg.build_sensor_context(instance=instance, repository_def=automation.repository) as context,
    ):
        data = automation.location.sensor.evaluate_tick(context)
    assert data.skip_message is not None
    assert f"{file} is in use by another process" in data.skip_message
    assert f"PID {pid}" in data.skip_message
    assert not data.run_requests


@pytest.mark.parametrize("name", ["state", "second"])
def test_the_janitor_waits_for_a_file_of_any_gateway(
    project: Path, instance: dg.DagsterInstance, name: str
) -> None:
    automation, file = (
        Automation.of(project, instance, lease_timeout_seconds=20),
        project / f"{name}.duckdb",
    )
    job = automation.repository.get_job("sqlmesh_prod_janitor")
    with held_until_wanted(file):
        result = job.execute_in_process(instance=instance)
    assert result.success
    assert waited(instance, result.run_id, file)


@pytest.mark.parametrize("name", ["state", "second"])
def test_a_plan_waits_for_a_file_of_any_gateway(project: Path, name: str) -> None:
    settings, file = AutomationSettings(project=project), project / f"{name}.duckdb"
    messages: list[str] = []
    with held_until_wanted(file):
        models = preview(settings, Wait(20, messages.append), "a test")
    assert [message.partition(": Conf")[0] for message in messages] == [f"Waiting: {file.name}"]
    assert {model.change for model in models} == {"unchanged"}


def test_what_stays_in_use_fails_the_run_and_is_named(
    project: Path, instance: dg.DagsterInstance
) -> None:
    automation = Automation.of(project, instance, lease_timeout_seconds=1)
    file = project / "second.duckdb"
    tick = automation.tick(NEXT_DAY)
    (request,) = tick.run_requests
    with held_open(file):
        run = automation.execute(set(request.asset_selection or ()), request.tags)
    assert not run.success
    assert f"{file} is in use" in str(run.failure("shop__one"))
    # Nobody's fault: it is asked for again at once.
    assert automation.tick(NEXT_DAY).requested == {"shop/one", "second/shop/two"}
    with held_open(file), pytest.raises(DatabaseLocked):
        preview(AutomationSettings(project=project), Wait(0), "a test")
