"""Whatever cannot be used ends a command with one clear error and exit code 2 or 3."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import duckdb
import pytest
from click.testing import Result
from support.schema import invoke

from dagster_sqlmesh_automation.automation.cli.mappings import misleading
from dagster_sqlmesh_automation.automation.definitions import Location
from dagster_sqlmesh_automation.config.settings import PREFIX, AutomationSettings

SECRET = "481516234211"
"""Of digits alone, which YAML reads as a number."""


@pytest.fixture(scope="module")
def project(planned_example: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the example that nothing changes."""
    copy = tmp_path_factory.mktemp("refusals") / "jaffle_shop"
    return Path(shutil.copytree(planned_example, copy))


def only_error(result: Result, code: int) -> str:
    """The message of a command that has printed nothing else."""
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    assert result.stderr.startswith("Error: ")
    return result.stderr


# Settings


@pytest.mark.parametrize(
    ("name", "value", "named"),
    [
        pytest.param("ENVIRONMENT", "dev_ünder", "letters from a to z", id="letters beyond ASCII"),
        pytest.param("ENVIRONMENT", "dev٣", "letters from a to z", id="digits beyond ASCII"),
        pytest.param("ENVIRONMENT", "d" * 300, "at most 55", id="a long environment"),
        pytest.param("NAME", "n" * 300, "at most 50 characters", id="a long name"),
        pytest.param("PROJECT", "~nosuchuser/x", "~nosuchuser has none", id="an unknown user"),
        pytest.param("MANIFEST", "~nosuchuser/x", "~nosuchuser", id="of the manifest"),
        pytest.param("CONFIG", "~nosuchuser/x", "~nosuchuser", id="of the YAML file"),
        pytest.param("PROJECT", "/" + "p" * 5000, "File name too long", id="a long path"),
        pytest.param("MANIFEST", "/" + "p" * 5000, "File name too long", id="to the manifest"),
        pytest.param("CONFIG", "/" + "p" * 5000, "File name too long", id="to the YAML file"),
        pytest.param("MODELS", '{"a":' * 1000, "nested too deeply", id="nested JSON"),
        pytest.param("RETRY__DELAY_SECONDS", "7200", "RETRY__MAX_DELAY_SECONDS", id="a delay"),
        pytest.param(
            "MODELS", '{"*": {"retry": {"delay_seconds": 7200}}}', "Set both", id="of a rule"
        ),
        pytest.param("LEASE_TIMEOUT_SECONDS", "1" * 31, "31536000", id="a lease of 31 digits"),
        pytest.param("FRESHNESS_GRACE_SECONDS", "1" * 31, "31536000", id="a grace of 31 digits"),
        pytest.param("CRON_MAP", '{"@daily": "0 0 30 2 *"}', "a day that exists", id="no such day"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(
    project: Path, name: str, value: str, named: str
) -> None:
    variables = {f"{PREFIX}PROJECT": str(project), f"{PREFIX}{name}": value}
    message = only_error(invoke("status", "--json", **variables), 2)
    assert f"{PREFIX}{name.partition('__')[0]}" in message
    assert named in message
    assert len(message) < 2000


@pytest.mark.parametrize(
    ("variable", "named"),
    [
        ("sqlmesh_automation_enabledd", "Did you mean SQLMESH_AUTOMATION_ENABLED?"),
        ("sqlmesh_automation_retry__attempts", "is not a setting"),
        ("sqlmesh_automation_models", "is not JSON"),
    ],
)
def test_a_variable_in_lower_case_is_checked_like_any_other(
    project: Path, variable: str, named: str
) -> None:
    message = only_error(invoke("status", "--project", project, **{variable: "{"}), 2)
    assert f"Error: {variable}" in message
    assert named in message


@pytest.mark.parametrize(
    "settings",
    [
        {"cron_map": {"@daily": "0 0 29 2 1#5"}},
        {"models": {"sales.*": {"schedule": "0 0 29 2 *", "group": "g" * 300}}},
        {"lease_timeout_seconds": 31_536_000, "freshness_grace_seconds": 31_536_000},
        {"max_models_per_run": 1_000_000, "keep_evaluations_days": 36_500},
        {"name": "n" * 50, "asset_key_prefix": "p" * 3000, "external_asset_key": "{name}" * 50},
        {"retry": {"max_attempts": 100, "delay_seconds": 86_400, "max_delay_seconds": 604_800}},
    ],
    ids=str,
)
def test_what_is_accepted_can_be_used(project: Path, settings: dict[str, object]) -> None:
    location = Location(AutomationSettings(project=project, **settings))
    misleading(location.settings, location.manifest, location.policies)
    assert location.definitions.get_repository_def()


def test_prepare_fails_where_nothing_is_kept(project: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "no_folder" / "manifest.json"
    manifest.parent.touch()
    message = only_error(
        invoke("prepare", "--project", project, **{f"{PREFIX}MANIFEST": str(manifest)}), 2
    )
    assert f"cannot be kept at {manifest}" in message
    assert f"Set {PREFIX}MANIFEST" in message


# DAGSTER_HOME


def storage(url: str) -> str:
    return f"storage: {{postgres: {{postgres_url: {json.dumps(url)}}}}}"


DATABASE = f"storage: {{postgres: {{postgres_db: {{username: u, password: {SECRET}, "
NAMED = DATABASE.replace(SECRET, "p")


@pytest.mark.parametrize(
    ("file", "named"),
    [
        pytest.param(storage(f"u:{SECRET}@host/db"), "look at its URL", id="no scheme"),
        pytest.param(storage(f"postgresq://u:{SECRET}@host/db"), "look at its URL", id="a typo"),
        pytest.param(storage("postgresql+psycopg2://u:p@h:port/db"), "ValueError", id="a port"),
        pytest.param(storage("postgresql+psycopg2://u:p@[::1/db"), "ValueError", id="a bracket"),
        pytest.param(storage("postgresql+pg8000://u:p@h/db"), "pg8000", id="a missing driver"),
        pytest.param(storage(""), "postgres_url", id="an empty URL"),
        pytest.param(
            NAMED + "hostname: {env: NO_SUCH}, db_name: d}}}", "hostname failed", id="no value"
        ),
        pytest.param(
            NAMED + "hostname: h, db_name: d, port: {env: CANARY}}}}",
            "postgres_db:port failed",
            id="a value of another type",
        ),
        pytest.param(
            DATABASE + "hostname: h, db_name: d}}}",
            "postgres_db:password",
            id="a password that is a number",
        ),
        pytest.param(
            "storage: {mysql: {mysql_url: x}}", "module dagster_mysql", id="a missing package"
        ),
        pytest.param("storage: {sqlite: {base_dir: /proc/nosuch}}", "/proc/nosuch", id="a folder"),
        pytest.param(
            "storage: {custom: {module: json, class: X, config: {}}}", "class X", id="a class"
        ),
        pytest.param(f"password: [{SECRET}", "is not YAML", id="broken YAML"),
        pytest.param(f"- {SECRET}", "to parse to dictionary", id="a list"),
        pytest.param("gateway: 1", "gateway", id="an unknown key"),
    ],
)
def test_a_dagster_home_that_cannot_be_used_is_named_without_its_secrets(
    project: Path, tmp_path: Path, file: str, named: str
) -> None:
    (tmp_path / "dagster.yaml").write_text(file)
    variables = {"DAGSTER_HOME": str(tmp_path), "CANARY": f"x{SECRET}"}
    message = only_error(invoke("status", "--json", "--project", project, **variables), 2)
    assert f"DAGSTER_HOME='{tmp_path}' cannot be used: " in message
    assert "Mend its dagster.yaml." in message
    assert named in message
    assert SECRET not in message
    assert len(message) < 1000


def test_a_dagster_storage_out_of_reach_ends_with_3(project: Path, tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").write_text(
        storage(f"postgresql+psycopg2://u:{SECRET}@127.0.0.1:1/db")
    )
    message = only_error(
        invoke("status", "--json", "--project", project, DAGSTER_HOME=str(tmp_path)), 3
    )
    assert "is out of reach: " in message
    assert SECRET not in message


# SQLMesh's state


@pytest.mark.parametrize(
    ("change", "named"),
    [
        pytest.param("schema_version = schema_version - 1", "sqlmesh migrate", id="not migrated"),
        pytest.param("schema_version = schema_version + 1", "which is behind", id="newer"),
        pytest.param("sqlmesh_version = '0.1.0'", "sqlmesh migrate", id="of an older SQLMesh"),
        pytest.param("sqlglot_version = '999.0.0'", "SQLGlot", id="of a newer SQLGlot"),
    ],
)
@pytest.mark.parametrize("command", ["status", "tick"])
def test_a_state_of_another_version_ends_with_2(
    example: Path, command: str, change: str, named: str
) -> None:
    with duckdb.connect(str(example / "jaffle_shop.duckdb")) as connection:
        connection.execute(f"UPDATE sqlmesh._versions SET {change}")
    message = only_error(invoke(command, "--json", "--project", example), 2)
    assert f"SQLMesh's state of {example} is of another version: " in message
    assert named in message
