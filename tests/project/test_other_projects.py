"""Two SQLMesh projects with one state: the other one plans, and this one's assets follow."""

from __future__ import annotations

import logging
from pathlib import Path

import dagster as dg
import pytest
from support import projects
from support.deployment import database_open_elsewhere
from support.ticks import Automation
from support.warehouse import NEXT_DAY, PLANNED_AT

from dagster_sqlmesh_automation.assets.dagster_internals import (
    DefinitionsLoadContext,
    DefinitionsLoadType,
)
from dagster_sqlmesh_automation.assets.project import deployed
from dagster_sqlmesh_automation.assets.project.deployed import current_manifest
from dagster_sqlmesh_automation.config.settings import AutomationSettings

MODEL = "MODEL (name {name}, kind FULL, cron '@daily', start '2026-10-01');\nSELECT {sql}\n"


def project(folder: Path, name: str, database: Path, **models: str) -> Path:
    """A SQLMesh project with a name, in a database that others have, too."""
    (folder / "models").mkdir(parents=True)
    (folder / "config.yaml").write_text(
        f"project: {name}\n"
        f"gateways: {{main: {{connection: {{type: duckdb, database: '{database}'}}}}}}\n"
        "model_defaults: {dialect: duckdb}\n"
    )
    for model, sql in models.items():
        write_model(folder, model, sql)
    return folder


def write_model(folder: Path, model: str, sql: str) -> None:
    (folder / "models" / f"{model}.sql").write_text(MODEL.format(name=f"shop.{model}", sql=sql))


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    """Our project, planned, prepared, and automated."""
    folder = project(tmp_path / "ours", "ours", tmp_path / "state.duckdb", orders="1 AS id")
    projects.plan(folder, PLANNED_AT)
    return folder


@pytest.fixture
def theirs(ours: Path) -> Path:
    """The project beside it, which reads one of our models; not planned yet."""
    current_manifest(AutomationSettings(project=ours))
    database = ours.parent / "state.duckdb"
    return project(ours.parent / "theirs", "theirs", database, revenue="id FROM shop.orders")


def names(folder: Path, **settings: str) -> list[str]:
    manifest = current_manifest(AutomationSettings(project=folder, **settings))
    return sorted(model.name for model in manifest.executed)


def test_a_model_that_the_other_project_plans_is_requested_after_a_reload(
    ours: Path, theirs: Path, instance: dg.DagsterInstance
) -> None:
    assert names(ours) == ["shop.orders"]
    projects.plan(theirs, PLANNED_AT)
    tick, run = Automation.of(ours, instance).tick_and_run(NEXT_DAY)
    assert tick.requested == {"shop/orders", "shop/revenue"}
    assert run is not None
    assert run.success


def test_what_the_other_project_changes_and_removes_is_taken_up(ours: Path, theirs: Path) -> None:
    write_model(theirs, "costs", "2 AS id")
    projects.plan(theirs, PLANNED_AT)
    assert names(ours) == ["shop.costs", "shop.orders", "shop.revenue"]
    (theirs / "models" / "costs.sql").unlink()
    write_model(theirs, "revenue", "id + 1 AS id FROM shop.orders")
    projects.plan(theirs, PLANNED_AT)
    manifest = current_manifest(AutomationSettings(project=ours))
    assert sorted(model.name for model in manifest.executed) == ["shop.orders", "shop.revenue"]
    (revenue,) = [model for model in manifest.models if model.name == "shop.revenue"]
    assert revenue.sql is not None
    assert "+ 1" in revenue.sql


def test_the_project_is_loaded_once_for_each_plan(
    ours: Path, theirs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = []
    original = deployed.load_manifest

    def counted(settings: AutomationSettings, fingerprint: str):  # type: ignore[no-untyped-def]
        loads.append(fingerprint)
        return original(settings, fingerprint)

    monkeypatch.setattr(deployed, "load_manifest", counted)
    names(ours)
    assert not loads
    projects.plan(theirs, PLANNED_AT)
    for _ in range(3):
        names(ours)
    assert len(loads) == 1


def test_a_state_out_of_reach_and_a_runs_process_take_the_manifest_as_it_is(
    ours: Path,
    theirs: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.WARNING)
    projects.plan(theirs, PLANNED_AT)
    with database_open_elsewhere(ours.parent / "state.duckdb", "SELECT 1"):
        assert names(ours) == ["shop.orders"]
        assert "The models of other projects are as of plan" in caplog.text
        caplog.clear()
        of_a_run = DefinitionsLoadContext(DefinitionsLoadType.RECONSTRUCTION)
        monkeypatch.setattr(DefinitionsLoadContext, "_instance", of_a_run)
        assert names(ours) == ["shop.orders"]
        assert not caplog.messages


def test_a_project_without_a_name_has_no_others_beside_it(
    ours: Path, theirs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = project(ours.parent / "alone", "''", ours.parent / "alone.duckdb", other="1 AS id")
    assert current_manifest(AutomationSettings(project=alone)).beside_plan is None

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the state is opened")

    monkeypatch.setattr(deployed, "open_context", refuse)
    assert names(alone) == ["shop.other"]
