"""``SOURCE=environment``: definitions show what is deployed, whatever the project's files say."""

from __future__ import annotations

import dataclasses
import logging
import os
import shutil
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.definitions_load_context import (
    DefinitionsLoadContext,
    DefinitionsLoadType,
)
from support import projects
from support.deployment import database_open_elsewhere
from support.ticks import Automation
from support.warehouse import NEXT_DAY, PLANNED_AT, Warehouse, warehouse

from dagster_sqlmesh_automation.assets.project.deployed import current_manifest
from dagster_sqlmesh_automation.assets.project.manifest import Manifest
from dagster_sqlmesh_automation.assets.project.manifest_file import manifest_path
from dagster_sqlmesh_automation.config.errors import (
    EnvironmentNotFound,
    ProjectNotFound,
    Unavailable,
)
from dagster_sqlmesh_automation.config.rules import Source
from dagster_sqlmesh_automation.config.settings import AutomationSettings

NEW = "MODEL (name shop.new, kind VIEW);\nSELECT country_id FROM shop.totals\n"


@pytest.fixture
def shop(tmp_path: Path) -> Warehouse:
    return warehouse(tmp_path / "shop")


def settings_of(project: Path, environment: str = "prod") -> AutomationSettings:
    return AutomationSettings(project=project, environment=environment, source="environment")


def locked(shop: Warehouse) -> AbstractContextManager[int]:
    """Nobody else can open the state meanwhile."""
    return database_open_elsewhere(shop.project / "warehouse.duckdb", "SELECT 1")


def names(manifest: Manifest) -> list[str]:
    return [model.name for model in manifest.executed]


def plan_new_model(shop: Warehouse) -> None:
    (shop.project / "models" / "new.sql").write_text(NEW)
    projects.plan(shop.project, PLANNED_AT)


def test_the_example_looks_the_same_as_from_its_files(example: Path) -> None:
    from_files = current_manifest(AutomationSettings(project=example))
    deployed = current_manifest(settings_of(example))

    # But for where the files are: the machine that planned may be another one.
    models = [dataclasses.replace(model, path=None, line=1) for model in from_files.models]
    audits = [dataclasses.replace(audit, path=None) for audit in from_files.standalone_audits]
    assert (list(deployed.models), list(deployed.standalone_audits)) == (models, audits)
    assert (from_files.plan_id, bool(deployed.plan_id)) == (None, True)
    for fact in ("gateway", "engine", "state_engine"):
        assert getattr(deployed, fact) == getattr(from_files, fact)


def test_models_that_are_not_deployed_do_not_show(shop: Warehouse) -> None:
    (shop.project / "models" / "new.sql").write_text(NEW)
    (shop.project / "models" / "best.sql").unlink()
    found = names(current_manifest(settings_of(shop.project)))
    assert "shop.new" not in found
    assert "shop.best" in found


def test_each_environment_shows_its_own(shop: Warehouse) -> None:
    (shop.project / "models" / "new.sql").write_text(NEW)
    projects.plan(shop.project, PLANNED_AT, "dev", skip_tests=True)
    assert "shop.new" in names(current_manifest(settings_of(shop.project, "dev")))
    assert "shop.new" not in names(current_manifest(settings_of(shop.project)))


def test_a_folder_without_model_files_ticks_and_runs(
    shop: Warehouse, instance: dg.DagsterInstance
) -> None:
    for folder in ("models", "audits", ".cache"):
        shutil.rmtree(shop.project / folder)
    automation = Automation.of(shop.project, instance, source=Source.ENVIRONMENT)
    tick, run = automation.tick_and_run(NEXT_DAY)
    assert tick.requested == {"shop/best", "shop/customers", "shop/events", "shop/totals"}
    assert run is not None
    assert run.success
    assert ("shop/totals", "has_rows") not in run.checks()
    assert run.checks()["shop/events", "has_rows"].passed


def test_a_new_plan_is_taken_up_when_a_code_server_loads(shop: Warehouse) -> None:
    before = current_manifest(settings_of(shop.project))
    assert current_manifest(settings_of(shop.project)) == before
    plan_new_model(shop)
    after = current_manifest(settings_of(shop.project))
    assert "shop.new" in names(after)
    assert after.plan_id != before.plan_id


def test_what_is_deployed_is_read_again_only_after_a_plan(
    shop: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dagster_sqlmesh_automation.assets.project import deployed

    read: list[str] = []
    original = deployed.manifest_of

    def counted(*args, **kwargs):
        read.append("")
        return original(*args, **kwargs)

    monkeypatch.setattr(deployed, "manifest_of", counted)
    for _ in range(3):
        current_manifest(settings_of(shop.project))
    # Model files are no matter; the configuration is.
    (shop.project / "models" / "best.sql").unlink()
    current_manifest(settings_of(shop.project))
    assert len(read) == 1
    current_manifest(settings_of(shop.project), force=True)
    assert len(read) == 2
    with (shop.project / "config.yaml").open("a") as file:
        file.write("\n# changed\n")
    current_manifest(settings_of(shop.project))
    assert len(read) == 3


def test_a_runs_process_takes_the_file_as_it_is_and_opens_no_database(
    shop: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = current_manifest(settings_of(shop.project))
    plan_new_model(shop)
    of_a_run = DefinitionsLoadContext(DefinitionsLoadType.RECONSTRUCTION)
    monkeypatch.setattr(DefinitionsLoadContext, "_instance", of_a_run)
    with locked(shop):
        assert current_manifest(settings_of(shop.project)) == before


def test_dagster_loads_definitions_anew_in_a_runs_process(shop: Warehouse, tmp_path: Path) -> None:
    # What run workers and step processes call: nothing but the origin of the code location.
    (tmp_path / "location.py").write_text(
        "from dagster_sqlmesh_automation.automation.definitions import build_definitions\n"
        "defs = build_definitions()\n"
    )
    script = (
        "import sys\n"
        "from dagster._core.code_pointer import FileCodePointer\n"
        "from dagster._core.definitions.reconstruct import ReconstructableRepository\n"
        f"pointer = FileCodePointer({str(tmp_path / 'location.py')!r}, 'defs')\n"
        "ReconstructableRepository(pointer).get_definition()\n"
        "print('sqlmesh' in sys.modules)\n"
    )
    current_manifest(settings_of(shop.project))
    with locked(shop):
        done = subprocess.run(
            [sys.executable, "-c", script],
            env=_variables(shop.project),
            capture_output=True,
            text=True,
            check=True,
        )
    assert done.stdout.split() == ["False"]


def test_an_environment_that_was_never_planned_is_an_error(shop: Warehouse) -> None:
    with pytest.raises(EnvironmentNotFound, match="'nowhere' does not exist"):
        current_manifest(settings_of(shop.project, "nowhere"))


def test_a_folder_without_a_configuration_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ProjectNotFound):
        current_manifest(settings_of(tmp_path))


def test_a_state_out_of_reach_is_bridged_by_the_file(
    shop: Warehouse, caplog: pytest.LogCaptureFixture
) -> None:
    settings = settings_of(shop.project)
    manifest_path(settings).unlink()
    caplog.set_level(logging.WARNING)
    with locked(shop), pytest.raises(Unavailable):
        current_manifest(settings)
    assert not caplog.messages
    before = current_manifest(settings)
    plan_new_model(shop)
    with locked(shop):
        assert current_manifest(settings) == before
        with pytest.raises(Unavailable):
            current_manifest(settings, force=True)
    assert f"as of plan {before.plan_id}" in caplog.text


def test_the_file_of_another_source_does_not_count(shop: Warehouse) -> None:
    (shop.project / "models" / "new.sql").write_text(NEW)
    from_files = AutomationSettings(project=shop.project)
    assert "shop.new" in names(current_manifest(from_files))
    assert "shop.new" not in names(current_manifest(settings_of(shop.project)))
    assert "shop.new" in names(current_manifest(from_files))


def test_a_new_plan_shows_as_drift_until_the_code_location_loads_again(
    shop: Warehouse, instance: dg.DagsterInstance
) -> None:
    automation = Automation.of(shop.project, instance, source=Source.ENVIRONMENT)

    def lines(automation: Automation) -> list[str]:
        plan = automation.location.planner.plan(instance, PLANNED_AT)
        return list(automation.location.planner.report_drift(instance, plan))

    assert lines(automation) == []
    plan_new_model(shop)
    assert lines(automation) == [
        "drift from SQLMesh environment 'prod': there without an asset: warehouse.shop.new: "
        "reload the code location"
    ]
    assert lines(Automation.of(shop.project, instance, source=Source.ENVIRONMENT)) == []


def _variables(project: Path) -> dict[str, str]:
    return {
        **os.environ,
        "SQLMESH_AUTOMATION_PROJECT": str(project),
        "SQLMESH_AUTOMATION_SOURCE": "environment",
    }
