"""``PROJECT`` with several paths, as ``sqlmesh -p a -p b`` takes them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest
from click.testing import CliRunner
from support import projects
from support.deployment import database_open_elsewhere
from support.ticks import Automation
from support.warehouse import NEXT_DAY, PLANNED_AT

from dagster_sqlmesh_automation.assets.evaluation.plans import preview
from dagster_sqlmesh_automation.assets.lease.waiting import Wait
from dagster_sqlmesh_automation.assets.project.deployed import current_manifest
from dagster_sqlmesh_automation.assets.project.earlier import usable_manifest
from dagster_sqlmesh_automation.assets.project.fingerprint import (
    deployed_fingerprint,
    project_fingerprint,
)
from dagster_sqlmesh_automation.assets.project.manifest_file import manifest_path
from dagster_sqlmesh_automation.assets.project.opening import duckdb_files, open_context
from dagster_sqlmesh_automation.automation.cli.main import main
from dagster_sqlmesh_automation.config.errors import (
    EnvironmentNotFound,
    GatewayUnknown,
    ProjectFileInvalid,
    ProjectNotFound,
)
from dagster_sqlmesh_automation.config.settings import AutomationSettings

DAILY = """
MODEL (name {name}, kind INCREMENTAL_BY_TIME_RANGE (time_column day), cron '@daily',
  start '2026-10-01');
SELECT {sql}, @end_date AS until {source} WHERE TRUE
"""
ORDERS = DAILY.format(
    name="shop.orders",
    sql="CAST(d AS DATE) AS day, 7 AS amount",
    source="FROM GENERATE_SERIES(@start_date, @end_date, INTERVAL 1 DAY) AS s(d)",
)
REVENUE = DAILY.format(
    name="mart.revenue",
    sql="day, amount * 2 AS amount",
    source="FROM shop.orders WHERE day BETWEEN @start_date AND @end_date AND TRUE",
).replace(" AND TRUE WHERE TRUE", "")
COSTS = "MODEL (name mart.costs, kind FULL, cron '@daily', start '2026-10-01'); {sql}"
NEW = COSTS.format(sql="SELECT COUNT(*) AS days, MAX(until) AS until FROM shop.orders")


def project(folder: Path, name: str, database: Path, **models: str) -> Path:
    (folder / "models").mkdir(parents=True)
    (folder / "config.yaml").write_text(
        f"project: {name}\n"
        f"gateways: {{main: {{connection: {{type: duckdb, database: '{database}'}}}}}}\n"
        "model_defaults: {dialect: duckdb}\n"
    )
    for model, text in models.items():
        write_model(folder, model, text)
    return folder


def write_model(folder: Path, model: str, text: str) -> None:
    (folder / "models" / f"{model}.sql").write_text(text)


def add_gateway(folder: Path, database: Path) -> None:
    config = folder / "config.yaml"
    gateway = f"reports: {{connection: {{type: duckdb, database: '{database}'}}}}"
    text = config.read_text().replace("gateways: {", f"gateways: {{{gateway}, ")
    config.write_text(f"default_gateway: main\n{text}")


def shops(folder: Path) -> list[Path]:
    """Two projects with one state, both planned, each by its own people."""
    database = folder / "state.duckdb"
    sales = project(folder / "sales", "sales", database, orders=ORDERS)
    mart = project(folder / "mart", "mart", database, revenue=REVENUE)
    for planned in (sales, mart):
        projects.plan(planned, PLANNED_AT)
    return [sales, mart]


@pytest.fixture
def both(tmp_path: Path) -> list[Path]:
    return shops(tmp_path / "ours")


def rows(folders: Sequence[Path]) -> dict[str, Any]:
    """The content of every table of the environment."""
    with duckdb.connect(str(folders[0].parent / "state.duckdb"), read_only=True) as database:
        names = database.execute(
            "SELECT schema_name, view_name FROM duckdb_views() "
            "WHERE schema_name IN ('shop', 'mart') ORDER BY ALL"
        ).fetchall()
        return {
            f"{schema}.{name}": database.execute(
                f"SELECT * FROM {schema}.{name} ORDER BY ALL"
            ).fetchall()
            for schema, name in names
        }


def told(automation: Automation) -> list[str]:
    """What a tick tells of models that the definitions and the environment do not share."""
    planner = automation.location.planner
    plan = planner.plan(automation.instance, NEXT_DAY)
    return list(planner.report_drift(automation.instance, plan))


def test_what_the_other_repository_plans_is_requested_and_runs_as_with_sqlmesh_itself(
    both: list[Path], tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    before = current_manifest(AutomationSettings(project=both))
    plain = shops(tmp_path / "plain")
    for _, mart in (both, plain):
        write_model(mart, "costs", NEW)
        projects.plan(mart, PLANNED_AT)

    automation = Automation.of(both, instance)
    assert automation.location.manifest.fingerprint != before.fingerprint
    tick, run = automation.tick_and_run(NEXT_DAY)
    assert tick.requested == {"shop/orders", "mart/revenue", "mart/costs"}
    assert run is not None
    assert run.success
    assert not automation.tick(NEXT_DAY).requested

    projects.sqlmesh_run(plain, NEXT_DAY)
    assert rows(both) == rows(plain)
    assert [days for days, _ in rows(both)["mart.costs"]] == [8]


def test_a_model_that_is_only_in_the_other_repositorys_files_has_an_asset(
    both: list[Path], instance: dg.DagsterInstance
) -> None:
    write_model(both[1], "costs", NEW)
    automation = Automation.of(both, instance)
    assert {model.name for model in automation.location.manifest.executed} == {
        "shop.orders",
        "mart.revenue",
        "mart.costs",
    }
    (line,) = told(automation)
    assert line.startswith("drift from SQLMesh environment 'prod': not in it: mart.costs: ")


def test_with_one_of_the_paths_what_the_environment_has_of_the_other_is_named(
    both: list[Path], instance: dg.DagsterInstance
) -> None:
    automation = Automation.of(both[0], instance)
    write_model(both[1], "costs", NEW)
    projects.plan(both[1], PLANNED_AT)
    tick = automation.tick(NEXT_DAY)
    assert tick.requested == {"shop/orders", "mart/revenue"}
    (line,) = told(automation)
    kind = "there without an asset"
    assert line.startswith(f"drift from SQLMesh environment 'prod': {kind}: state.mart.costs: ")


@pytest.mark.parametrize("which", [0, 1])
def test_the_fingerprint_is_of_the_files_of_all(both: list[Path], which: int) -> None:
    settings = AutomationSettings(project=both)

    def fingerprints() -> tuple[str, str]:
        return project_fingerprint(settings, manifest_path(settings)), deployed_fingerprint(
            settings
        )

    files, deployed = fingerprints()
    write_model(both[which], "more", NEW)
    with_model = fingerprints()
    assert with_model[0] != files
    assert with_model[1] == deployed
    with (both[which] / "config.yaml").open("a") as config:
        config.write("\n# changed\n")
    assert fingerprints()[1] != deployed


def test_the_order_of_the_paths_counts_and_one_path_has_a_manifest_of_its_own(
    both: list[Path],
) -> None:
    one, two, reversed_ = (
        AutomationSettings(project=given) for given in (both[0], both, both[::-1])
    )
    paths = {manifest_path(settings) for settings in (one, two, reversed_)}
    assert len(paths) == 3
    for settings in (one, two):
        current_manifest(settings)
        assert manifest_path(settings).parent == both[0] / ".cache" / "dagster_sqlmesh_automation"
    assert manifest_path(one).is_file()
    # The paths tell which project a manifest of an earlier load is of.
    assert current_manifest(one).made_for != current_manifest(two).made_for


def test_source_environment_takes_what_the_environment_holds(both: list[Path]) -> None:
    manifest = current_manifest(AutomationSettings(project=both, source="environment"))
    assert {model.name for model in manifest.executed} == {"shop.orders", "mart.revenue"}


def test_a_file_of_the_second_one_that_does_not_load_leaves_the_earlier_manifest(
    both: list[Path],
) -> None:
    settings = AutomationSettings(project=both)
    usable_manifest(settings)
    write_model(both[1], "broken", "MODEL (name mart.broken, kind NONSENSE); SELECT 1 AS id")
    with pytest.raises(ProjectFileInvalid) as caught:
        current_manifest(settings)
    assert f"sqlmesh -p {both[0]} -p {both[1]} info" in str(caught.value)
    assert {model.name for model in usable_manifest(settings).executed} == {
        "shop.orders",
        "mart.revenue",
    }


def test_the_duckdb_files_of_all_are_waited_for(both: list[Path], tmp_path: Path) -> None:
    reports = tmp_path / "reports.duckdb"
    add_gateway(both[1], reports)
    settings = AutomationSettings(project=both)
    with open_context(settings, load=False) as context:
        found = [file.path for file in duckdb_files(context)]
    assert found == sorted([reports, both[0].parent / "state.duckdb"])
    # The database of the gateway that only the second one has need not be there to load.
    assert len(current_manifest(settings).executed) == 2
    assert not reports.exists()


def test_a_run_waits_for_a_file_that_only_the_second_one_names(
    both: list[Path], tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    reports = tmp_path / "reports.duckdb"
    duckdb.connect(str(reports)).close()
    add_gateway(both[1], reports)
    automation = Automation.of(both, instance, lease_timeout_seconds=1)
    with database_open_elsewhere(reports, "SELECT 1"):
        run = automation.run(["shop/orders"], NEXT_DAY)
        assert not run.success
        (event,) = run.events(dg.DagsterEventType.STEP_FAILURE)
        assert str(reports) in event.step_failure_data.error.to_string()
    assert automation.run(["shop/orders"], NEXT_DAY).success


def test_a_plan_is_previewed_of_the_files_of_all_and_assets_know_their_files(
    both: list[Path],
) -> None:
    for folder, text in zip(both, (ORDERS, REVENUE), strict=True):
        write_model(folder, "more", text.replace("(name ", "(name more_"))
    settings = AutomationSettings(project=both)
    planned = {model.name: model.change for model in preview(settings, Wait(1), "a test")}
    assert planned == {"more_shop.orders": "added", "more_mart.revenue": "added"}
    files = {model.name: model.path for model in current_manifest(settings).executed}
    assert files["more_shop.orders"] == "models/more.sql"
    assert files["more_mart.revenue"] == str(both[1] / "models" / "more.sql")


def test_errors_name_the_project_that_they_are_about(both: list[Path]) -> None:
    with pytest.raises(GatewayUnknown, match=r"'other'.*Configured gateways: main"):
        current_manifest(AutomationSettings(project=both, gateway="other"))
    with pytest.raises(EnvironmentNotFound) as caught:
        current_manifest(AutomationSettings(project=both, environment="dev", source="environment"))
    assert f"sqlmesh -p {both[0]} -p {both[1]} plan dev" in str(caught.value)
    shutil.rmtree(both[1])
    with pytest.raises(ProjectNotFound, match=f"No SQLMesh project at {both[1]}: it is no folder"):
        current_manifest(AutomationSettings(project=both))


def test_the_command_line_takes_the_option_several_times(
    both: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    options = [word for folder in both for word in ("--project", str(folder))]

    def invoke(*words: str) -> str:
        result = CliRunner().invoke(main, [*words, *options])
        assert result.exit_code in {0, 1}, result.output
        return result.output

    status = invoke("status", "--at", NEXT_DAY.isoformat())
    assert "shop.orders" in status
    assert "mart.revenue" in status
    findings = json.loads(invoke("doctor", "--json"))["findings"]
    texts = [finding["found"] for finding in findings]
    assert any(text.startswith(f"project {both[0]}, {both[1]}: 2 models") for text in texts)
    assert any(f'project=["{both[0]}", "{both[1]}"] (argument)' in text for text in texts)
