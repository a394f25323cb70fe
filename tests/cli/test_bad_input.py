"""Bad input: one clear error that names the thing, its value and the cure, and no partial state."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import venv
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import dagster as dg
import duckdb
import pytest
from support.schema import held_open, invoke

from dagster_sqlmesh_automation import SQLMeshTranslator, build_definitions
from dagster_sqlmesh_automation.assets.project.manifest import ManifestModel
from dagster_sqlmesh_automation.automation.definitions import Location
from dagster_sqlmesh_automation.automation.tick.planner import TickPlan
from dagster_sqlmesh_automation.config.errors import (
    AutomationError,
    ConfigurationError,
    DatabaseLocked,
    DuplicateAssetKey,
    EnvironmentNotFound,
    GatewayUnknown,
    ProjectEmpty,
    ProjectFileInvalid,
    ProjectInvalid,
    ProjectNotFound,
    StateUnavailable,
)
from dagster_sqlmesh_automation.config.settings import AutomationSettings

DUE = datetime(2026, 10, 14, 1, tzinfo=UTC)
DATABASE = "jaffle_shop.duckdb"
CONFIG = """\
gateways:
  main:
    connection: {{type: duckdb, database: '{folder}/warehouse.duckdb'}}
model_defaults: {{dialect: duckdb}}
"""
MODEL = "MODEL (name shop.orders, kind FULL);\nSELECT 1 AS id\n"


def project(folder: Path, files: Mapping[str, str]) -> Path:
    """A SQLMesh project with some files; ``config.yaml`` is a good one where it is not given."""
    for name, text in {"config.yaml": CONFIG.format(folder=folder), **files}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def refused(settings: AutomationSettings, kind: type[AutomationError]) -> str:
    """The message with which definitions are refused, once it is sure that nothing was left."""
    before = files(settings.project)
    with pytest.raises(AutomationError) as caught:
        build_definitions(settings)
    assert type(caught.value) is kind, caught.value
    assert files(settings.project) == before
    return str(caught.value)


def files(folder: Path) -> dict[str, str]:
    """The content of all files but SQLMesh's own caches."""
    own = ("model_definition", "optimized_query", "snapshot", "__pycache__")
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and not any(part in own for part in path.parts)
    }


def plan(settings: AutomationSettings, instance: dg.DagsterInstance) -> TickPlan:
    """What a tick of a new process decides."""
    return Location(settings).planner.plan(instance, DUE)


# The project


def test_a_manifest_of_somebody_elses_is_named_and_left(tmp_path: Path) -> None:
    folder = project(tmp_path / "project", {"models/orders.sql": MODEL})
    place = tmp_path / "manifest.json"
    place.write_text('{"metadata": {"dbt_version": "1.9.0"}, "nodes": {}}')
    result = invoke("prepare", "--project", folder, SQLMESH_AUTOMATION_MANIFEST=place)
    assert result.exit_code == 2
    assert result.stderr == (
        f"Error: SQLMESH_AUTOMATION_MANIFEST='{place}' holds something else than a manifest, and "
        "is left as it is. Set SQLMESH_AUTOMATION_MANIFEST to a file of its own, which may be "
        "missing yet, or unset it.\n"
    )
    assert "dbt_version" in place.read_text()


def test_a_missing_folder_is_named_and_not_made(tmp_path: Path) -> None:
    folder = tmp_path / "nowhere"
    with pytest.raises(ProjectNotFound) as caught:
        build_definitions(AutomationSettings(project=folder))
    assert str(caught.value) == (
        f"No SQLMesh project at {folder}: it is no folder. "
        "Set SQLMESH_AUTOMATION_PROJECT to the folder with the SQLMesh configuration."
    )
    assert not folder.exists()


def test_a_folder_without_a_configuration_is_no_project(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    message = refused(AutomationSettings(project=tmp_path), ProjectNotFound)
    assert str(tmp_path) in message
    assert "config.yaml" in message
    assert "SQLMESH_AUTOMATION_PROJECT" in message


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        pytest.param({"config.yaml": CONFIG + "modell_defaults: 1\n"}, "modell_defaults", id="key"),
        pytest.param({"config.yaml": CONFIG + "linter: 5\n"}, "'linter'", id="type"),
        pytest.param({"config.yaml": "gateways: [1\n"}, "gateways: [1", id="broken YAML"),
        pytest.param(
            {"config.py": "import missing_module\n"}, "missing_module", id="broken Python"
        ),
        pytest.param(
            {"models/bad.sql": "MODEL (name a.b);\nSELECT FROM WHERE (\n"}, "bad.sql", id="syntax"
        ),
        pytest.param(
            {"models/bad.sql": "MODEL (name a.b, cron 'often');\nSELECT 1\n"}, "'often'", id="cron"
        ),
        pytest.param({"models/bad.py": "def broken(:\n"}, "bad.py", id="a Python model"),
        pytest.param({"models/bad.sql": MODEL}, "shop.orders", id="the same model twice"),
        pytest.param(
            {"models/bad.sql": "MODEL (name orders, kind FULL);\nSELECT 1 AS id\n"},
            "orders",
            id="names with and without a schema",
        ),
    ],
)
def test_what_sqlmesh_refuses_is_named_with_the_command_that_shows_it(
    tmp_path: Path, bad: dict[str, str], named: str
) -> None:
    bad = {name: text.format(folder=tmp_path) for name, text in bad.items()}
    if "config.py" in bad:
        bad["config.yaml"] = ""
    folder = project(tmp_path, {"models/orders.sql": MODEL, **bad})
    if "config.py" in bad:
        (folder / "config.yaml").unlink()

    is_configuration = any(name.startswith("config") for name in bad)
    kind = ProjectInvalid if is_configuration else ProjectFileInvalid
    message = refused(AutomationSettings(project=folder), kind)
    assert ("SQLMESH_AUTOMATION_SOURCE=environment" in message) != is_configuration
    assert f"SQLMesh cannot load the project at {folder}: " in message
    assert named in message
    assert f"sqlmesh -p {folder} info" in message


@pytest.mark.parametrize(
    "more", [{}, {"external_models.yaml": "- name: raw.orders\n  columns: {id: int}\n"}]
)
def test_a_project_without_models_is_told_apart_from_a_broken_one(
    tmp_path: Path, more: dict[str, str]
) -> None:
    folder = project(tmp_path, more)
    message = refused(AutomationSettings(project=folder), ProjectEmpty)
    assert message.startswith(f"The SQLMesh project at {folder} has no models. Add one below ")


def test_an_unknown_gateway_is_named_beside_those_that_exist(tmp_path: Path) -> None:
    folder = project(tmp_path, {"models/orders.sql": MODEL})
    message = refused(AutomationSettings(project=folder, gateway="warehouse"), GatewayUnknown)
    assert message == (
        f"Gateway 'warehouse' (SQLMESH_AUTOMATION_GATEWAY) is not configured in {folder}. "
        "Configured gateways: main"
    )


# The environment and its state


def test_an_environment_that_was_never_planned_is_named_with_the_plan_that_makes_it(
    example: Path, instance: dg.DagsterInstance
) -> None:
    before = (example / DATABASE).read_bytes()
    with pytest.raises(EnvironmentNotFound) as caught:
        plan(AutomationSettings(project=example, environment="dev"), instance)
    assert str(caught.value) == (
        f"SQLMesh environment 'dev' does not exist in the state of {example}, which is "
        f"{example / DATABASE}. "
        f"Create it with: sqlmesh -p {example} plan dev"
    )
    assert (example / DATABASE).read_bytes() == before


def test_looking_makes_no_database_where_there_is_none(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    folder = project(tmp_path, {"models/orders.sql": MODEL})
    for _ in range(2):
        with pytest.raises(EnvironmentNotFound, match="plan prod"):
            plan(AutomationSettings(project=folder), instance)
    assert not list(folder.glob("*.duckdb*[!k]"))  # all but the lock beside where it would be


def test_looking_makes_no_tables_in_a_database_without_sqlmeshs_state(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    folder = project(tmp_path, {"models/orders.sql": MODEL})
    database = folder / "warehouse.duckdb"
    with duckdb.connect(str(database)) as connection:
        connection.execute("CREATE TABLE orders AS SELECT 1 AS id")
    before = database.read_bytes()
    with pytest.raises(EnvironmentNotFound, match="plan prod"):
        plan(AutomationSettings(project=folder), instance)
    assert database.read_bytes() == before


def test_a_file_that_is_no_database_is_neither_locked_nor_unplanned(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    # DuckDB's message holds the path, and "clocks" has a "lock" in it.
    folder = project(tmp_path / "clocks", {"models/orders.sql": MODEL})
    (folder / "warehouse.duckdb").write_text("not a database " * 1000)
    with pytest.raises(AutomationError, match=r"warehouse\.duckdb") as caught:
        plan(AutomationSettings(project=folder), instance)
    assert type(caught.value) is StateUnavailable


def tick(location: Location, instance: dg.DagsterInstance) -> tuple[str | None, int]:
    """The sensor's tick as Dagster's daemon asks for it: skip message and run requests."""
    with dg.build_sensor_context(
        instance=instance, repository_def=location.definitions.get_repository_def()
    ) as context:
        data = location.sensor.evaluate_tick(context)
    return data.skip_message, len(data.run_requests or ())


def test_the_first_tick_of_a_code_server_skips_while_another_process_holds_the_database(
    example: Path, instance: dg.DagsterInstance
) -> None:
    settings = AutomationSettings(project=example)
    build_definitions(settings)
    with held_open(example / DATABASE) as pid:
        location = Location(settings)  # from the prepared manifest
        message, runs = tick(location, instance)
        with pytest.raises(DatabaseLocked, match=f"PID {pid}"):
            location.planner.plan(instance, DUE)

    assert message is not None
    assert f"{example / DATABASE} is in use by another process" in message
    assert f"PID {pid}" in message
    assert runs == 0
    assert tick(location, instance) == (None, 1)


def test_a_later_tick_skips_too_and_the_one_after_the_lock_works(
    example: Path, instance: dg.DagsterInstance
) -> None:
    location = Location(AutomationSettings(project=example))
    assert tick(location, instance) == (None, 1)
    with held_open(example / DATABASE) as pid:
        message, runs = tick(location, instance)
    assert message is not None
    assert f"PID {pid}" in message
    assert runs == 0
    assert tick(location, instance) == (None, 1)


# Models


class WithoutCatalog(SQLMeshTranslator):
    """As a user may write it who has one catalog and gets a second."""

    def get_asset_key(self, model: ManifestModel) -> dg.AssetKey:
        return dg.AssetKey([model.schema, model.table])


def test_two_models_that_map_to_one_asset_key_are_both_named(tmp_path: Path) -> None:
    catalogs = "{{main: '{folder}/main.duckdb', other: '{folder}/other.duckdb'}}"
    config = CONFIG.replace("database: '{folder}/warehouse.duckdb'", f"catalogs: {catalogs}")
    folder = project(
        tmp_path,
        {
            "config.yaml": config.format(folder=tmp_path),
            "models/one.sql": MODEL,
            "models/two.sql": MODEL.replace("shop.orders", "other.shop.orders"),
        },
    )
    settings = AutomationSettings(project=folder)

    assert len(build_definitions(settings).resolve_all_asset_keys()) == 2
    with pytest.raises(DuplicateAssetKey) as caught:
        build_definitions(settings, translator=WithoutCatalog())
    assert isinstance(caught.value, ConfigurationError)
    for named in ('"main"."shop"."orders"', '"other"."shop"."orders"', "'shop/orders'"):
        assert named in str(caught.value)
    assert "SQLMeshTranslator.get_asset_key" in str(caught.value)


def test_files_that_the_plan_does_not_have_yet_do_not_break_the_tick(
    example: Path, instance: dg.DagsterInstance
) -> None:
    (example / "models" / "sales" / "added.sql").write_text(
        "MODEL (name sales.added, kind FULL, cron '@hourly');\nSELECT order_id FROM sales.orders\n"
    )
    (example / "models" / "finance" / "reconciliation.sql").unlink()
    decided = plan(AutomationSettings(project=example), instance)
    by_name = {decision.name: decision for decision in decided.decisions.values()}

    assert len(decided.requested) == 7
    assert "finance.reconciliation" not in by_name
    assert not by_name["sales.added"].requested
    assert "up to date" not in by_name["sales.added"].reason  # nobody has ever evaluated it


# Packages

PREPARE = "from dagster_sqlmesh_automation.automation.cli.main import main; main()"


def test_an_installed_sqlglotc_is_named_with_the_cure(tmp_path: Path, example: Path) -> None:
    builder = venv.EnvBuilder(symlinks=True)
    builder.create(tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    release = version("sqlglot")
    # sqlglotc installs compiled modules into sqlglot's own folder.
    packages = [f"sqlglot=={release}", f"sqlglotc=={release}"]
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--quiet"]
    installed = subprocess.run([*pip, *packages], capture_output=True, text=True, check=False)
    if installed.returncode != 0:
        pytest.skip(f"{packages[1]} cannot be installed: {installed.stderr.strip()[-200:]}")
    (packages_folder,) = (tmp_path / "venv" / "lib").glob("*/site-packages")
    ours = next(path for path in sys.path if path.endswith("site-packages"))
    (packages_folder / "ours.pth").write_text(f"import site; site.addsitedir({ours!r})\n")

    done = subprocess.run(
        [python, "-c", PREPARE, "prepare", "--project", example],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "'sqlglotc' is installed" in done.stderr
    assert "pip uninstall sqlglotc" in done.stderr
    assert not (example / ".cache" / "dagster_sqlmesh_automation").exists()
