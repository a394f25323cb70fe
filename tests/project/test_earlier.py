"""A file that does not load stops no ticks: definitions come from the manifest before it."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path

import dagster as dg
import pytest
from support import projects
from support.schema import invoke
from support.ticks import Automation
from support.warehouse import NEXT_DAY, PLANNED_AT, Warehouse, warehouse

from dagster_sqlmesh_automation.assets.dagster_internals import (
    DefinitionsLoadContext,
    DefinitionsLoadType,
)
from dagster_sqlmesh_automation.assets.naming import ENVIRONMENT_CHECK as CHECK
from dagster_sqlmesh_automation.assets.project.earlier import usable_manifest
from dagster_sqlmesh_automation.assets.project.manifest_file import manifest_path
from dagster_sqlmesh_automation.config.errors import (
    EnvironmentNotFound,
    ProjectFileInvalid,
    ProjectInvalid,
)
from dagster_sqlmesh_automation.config.settings import AutomationSettings

CAUSE = "no longer loads: .*broken.sql.*Mend it and reload .* SQLMESH_AUTOMATION_SOURCE=environment"


@pytest.fixture
def shop(tmp_path: Path) -> Warehouse:
    """A planned project with a manifest of it, and then a file that does not load."""
    shop = warehouse(tmp_path / "shop")
    (shop.project / "models" / "broken.sql").write_text("MODEL (name shop.broken);\nSELECT (\n")
    return shop


def settings_of(shop: Warehouse, **settings: str) -> AutomationSettings:
    return AutomationSettings(project=shop.project, **settings)


def outdated_lines(lines: list[str]) -> list[str]:
    return [line for line in lines if "Definitions are of an earlier load" in line]


def test_ticks_and_runs_go_on_with_a_warning(
    shop: Warehouse, instance: dg.DagsterInstance, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    before = manifest_path(settings_of(shop)).read_bytes()
    automation = Automation.of(shop.project, instance)
    assert len(outdated_lines(caplog.messages)) == 1

    tick, run = automation.tick_and_run(NEXT_DAY)

    assert tick.requested == {"shop/best", "shop/customers", "shop/events", "shop/totals"}
    assert run is not None
    assert run.success
    (line,) = tick.plan.warnings
    assert re.search(CAUSE, line)
    assert manifest_path(settings_of(shop)).read_bytes() == before


def test_the_environments_check_fails_until_the_project_loads_again(
    shop: Warehouse, instance: dg.DagsterInstance
) -> None:
    def latest(automation: Automation) -> dg.AssetCheckEvaluation | None:
        plan = automation.location.planner.plan(instance, PLANNED_AT)
        assert list(automation.location.planner.report_drift(instance, plan)) == []
        key = dg.AssetCheckKey(dg.AssetKey(["shop", "totals"]), CHECK)
        records = instance.event_log_storage.get_asset_check_execution_history(key, limit=1)
        return records[0].evaluation if records else None

    evaluation = latest(Automation.of(shop.project, instance))
    assert evaluation is not None
    assert not evaluation.passed
    assert "earlier load" in (evaluation.description or "")
    (shop.project / "models" / "broken.sql").unlink()
    evaluation = latest(Automation.of(shop.project, instance))
    assert evaluation is not None
    assert evaluation.passed


def test_the_doctor_calls_it_a_problem_and_goes_on(shop: Warehouse) -> None:
    result = invoke("doctor", "--json", "--project", shop.project)
    assert result.exit_code == 2
    findings = json.loads(result.stdout)["findings"]
    (finding,) = [finding for finding in findings if "earlier load" in finding["found"]]
    assert finding["level"] == "problem"
    assert "broken.sql" in finding["found"]
    assert finding["do"].startswith("Mend it and reload the code location")
    assert [finding for finding in findings if finding["found"].startswith("environment 'prod'")]


def test_prepare_fails_because_an_image_is_not_built_from_a_broken_project(
    shop: Warehouse,
) -> None:
    result = invoke("prepare", "--project", shop.project)
    assert result.exit_code == 2
    assert "SQLMESH_AUTOMATION_SOURCE=environment" in result.stderr


def test_a_setting_says_to_fail(shop: Warehouse) -> None:
    with pytest.raises(ProjectFileInvalid, match="SQLMESH_AUTOMATION_SOURCE=environment"):
        usable_manifest(settings_of(shop, on_invalid_project="fail"))


def test_a_configuration_that_does_not_load_is_an_error_because_ticks_need_it(
    shop: Warehouse,
) -> None:
    with (shop.project / "config.yaml").open("a") as file:
        file.write("\nmodell_defaults: 1\n")
    with pytest.raises(ProjectInvalid) as caught:
        usable_manifest(settings_of(shop))
    assert "SOURCE=environment" not in str(caught.value)


@pytest.mark.parametrize("file", ["none", "garbage", "of another environment"])
def test_without_an_earlier_manifest_of_this_environment_it_is_an_error(
    shop: Warehouse, file: str
) -> None:
    path = manifest_path(settings_of(shop))
    settings = settings_of(shop)
    if file == "none":
        path.unlink()
    elif file == "garbage":
        path.write_text("garbage")
    else:
        settings = settings_of(shop, environment="dev", manifest=str(path))
    with pytest.raises(ProjectFileInvalid):
        usable_manifest(settings)


def test_models_that_the_environment_no_longer_holds_are_not_shown(shop: Warehouse) -> None:
    for database in shop.project.glob("*.duckdb*"):
        database.unlink()
    with pytest.raises(EnvironmentNotFound):
        usable_manifest(settings_of(shop))
    (shop.project / "models").rename(shop.project / "away")
    (shop.project / "models").mkdir()
    (shop.project / "models" / "other.sql").write_text(
        "MODEL (name other.model, kind FULL);\nSELECT 1 AS id\n"
    )
    for folder in ("audits", "tests"):
        for each in (shop.project / folder).glob("*"):
            each.unlink()
    projects.plan(shop.project, PLANNED_AT, skip_tests=True)
    (shop.project / "away" / "broken.sql").rename(shop.project / "models" / "broken.sql")
    with pytest.raises(ProjectFileInvalid):
        usable_manifest(settings_of(shop))


def test_a_runs_process_asks_no_database(
    shop: Warehouse, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from dagster_sqlmesh_automation.assets.project import earlier

    def refuse(*_: object) -> bool:
        raise AssertionError("the state is asked")

    monkeypatch.setattr(earlier, "_is_deployed", refuse)
    of_a_run = DefinitionsLoadContext(DefinitionsLoadType.RECONSTRUCTION)
    monkeypatch.setattr(DefinitionsLoadContext, "_instance", of_a_run)
    assert usable_manifest(settings_of(shop)).outdated
