"""Canaries: a password and a variable's value appear nowhere, whatever is refused or fails."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._utils.error import serializable_error_info_from_exc_info
from duckdb import connect as duckdb_file
from support.executors import dagster_home
from support.outcome_helpers import LONG_AGO, small_project, sql as execute_sql
from support.schema import invoke

from dagster_sqlmesh_automation import AutomationSettings
from dagster_sqlmesh_automation.automation.definitions import Location

PASSWORD = "hunter-481516-canary"
VALUE = "qz7x-2342-zq8w-9vkt"
CANARIES = [text[begin : begin + 8] for text in (PASSWORD, VALUE) for begin in range(len(text) - 7)]
"""All their parts: pydantic cuts long values in the middle."""

CONFIG = """\
gateways: {main: {connection: {type: duckdb, database: FOLDER/small.duckdb}}}
model_defaults: {dialect: duckdb, start: 2024-01-01}
"""
MODEL = "MODEL (name shop.orders, kind FULL);\nSELECT 1 AS id\n"
POSTGRES = f"""\
gateways:
  main:
    connection:
      type: postgres
      host: 127.0.0.1
      port: 1
      user: u
      password: {PASSWORD}
      database: d
model_defaults: {{dialect: postgres}}
"""
CONFIG_PY = """\
import os
from sqlmesh.core.config import *
STATEMENT
config = Config(model_defaults=ModelDefaultsConfig(dialect="duckdb"))
"""

Files = Mapping[str, str]


def postgres(old: str, new: str) -> Files:
    """A configuration with a password, and something else in place of a part of it."""
    assert old in POSTGRES
    return {"config.yaml": POSTGRES.replace(old, new)}


def duckdb(options: str) -> Files:
    return {"config.yaml": CONFIG.replace("small.duckdb", f"small.duckdb, {options}")}


def python(statement: str) -> Files:
    return {"config.py": CONFIG_PY.replace("STATEMENT", statement)}


CONFIGURATIONS: Mapping[str, tuple[Files, str]] = {
    "a typo beside a password": (
        {"config.yaml": CONFIG + f"gatewayz: {{pg: {{password: {PASSWORD}}}}}\n"},
        "gatewayz",
    ),
    "a typo in front of all connections": (postgres("gateways:", "gatewayz:"), "gatewayz"),
    "a password that is a list": (
        postgres(PASSWORD, f"[{PASSWORD}, {PASSWORD}]"),
        "Invalid field 'password'",
    ),
    "a password that is a list of lines": (
        postgres(PASSWORD, f"\n        - {PASSWORD}\n        - two"),
        "Invalid field 'password'",
    ),
    "a password under another name": (postgres("password:", "passwort:"), "passwort"),
    "a password whose bracket is not closed": (postgres(PASSWORD, f"[{PASSWORD}"), "line"),
    "an unknown engine beside a password": (postgres("type: postgres", "type: pg"), "pg"),
    "a variable that is no number": (
        postgres("port: 1", "port: \"{{ env_var('CANARY') }}\""),
        "port",
    ),
    "a variable that names no gateway": (
        {"config.yaml": CONFIG + "default_gateway: \"{{ env_var('CANARY') }}\"\n"},
        "$CANARY",
    ),
    "a state out of reach": (postgres("user: u", "user: v"), "out of reach"),
    "a state out of reach, with a variable as password": (
        postgres(PASSWORD, "\"{{ env_var('CANARY') }}\""),
        "out of reach",
    ),
    "an option that DuckDB lacks": (
        duckdb(f"connector_config: {{s3_secret_key: '{PASSWORD}'}}"),
        "s3_secret_key",
    ),
    "a secret that DuckDB lacks": (
        duckdb(f"secrets: [{{type: s3x, secret: '{PASSWORD}'}}]"),
        "Failed to create secret",
    ),
    "a database with the password in its path": (
        duckdb(f"catalogs: {{x: '/nosuch/dbname=d password={PASSWORD} host=h'}}"),
        "catalogs",
    ),
    "Python with a password in a mapping": (
        python(f'config = Config(gatewayz={{"a": {{"password": "{PASSWORD}"}}}})'),
        "gatewayz",
    ),
    "Python with a password of another type": (
        python(f'PostgresConnectionConfig(host=1, user="u", password=["{PASSWORD}"])'),
        "password",
    ),
    "Python that quotes a variable": (
        python("raise ValueError('bad ' + os.environ['CANARY'])"),
        "bad $CANARY",
    ),
    "Python that quotes a URL": (
        python(f"raise ValueError('bad postgresql://u:{PASSWORD}@h/d')"),
        "bad postgresql://u:***@h",
    ),
    "a macro that quotes a variable": (
        {"macros/m.py": "import os\nraise KeyError('no ' + os.environ['CANARY'])\n"},
        "$CANARY",
    ),
    "a model that does not parse beside a variable": (
        {
            "models/bad.py": "import os\nfrom sqlmesh import model\n"
            "@model('shop.bad', columns={'id': os.environ['CANARY']})\n"
            "def execute(context, **k): ...\n"
        },
        "$CANARY",
    ),
}


def files(folder: Path, texts: Files) -> Path:
    """A project of these files."""
    default = {} if "config.py" in texts else {"config.yaml": CONFIG}
    for name, text in {**default, "models/orders.sql": MODEL, **texts}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text.replace("FOLDER", str(folder)))
    duckdb_file(folder / "small.duckdb").close()
    return folder


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CANARY", VALUE)
    monkeypatch.setenv("SQLMESH_DEBUG", "")
    return dagster_home(tmp_path / "home")


def shown(work: Callable[[], Any]) -> str:
    """The error of some work as Dagster stores and shows it, with all that it comes from."""
    try:
        work()
    except Exception:  # noqa: BLE001 - whatever it is, Dagster shows it
        info: Any = sys.exc_info()
        return serializable_error_info_from_exc_info(info).to_string()
    return ""


def commands(project: Path, home: Path, **variables: Any) -> Iterator[str]:
    """What the commands print, unhandled errors included."""
    for command in ("prepare", "status", "doctor", "tick"):
        result = invoke("-v", command, "--project", project, DAGSTER_HOME=home, **variables)
        yield result.output + result.stderr
        if result.exc_info is not None and not isinstance(result.exception, SystemExit):
            yield "".join(traceback.format_exception(*result.exc_info))


def leaks(folder: Path, own: Mapping[Path, Any]) -> list[str]:
    """The files below a folder with a canary, but for those that a person wrote."""
    return [
        str(path)
        for path in folder.rglob("*")
        if path.is_file()
        and path not in own
        and any(canary.encode() in path.read_bytes() for canary in CANARIES)
    ]


def check(texts: str, folder: Path, own: Mapping[Path, Any], told: str) -> None:
    assert told in texts, texts[:3000]
    for canary in CANARIES:
        around = texts.find(canary)
        assert around == -1, texts[max(0, around - 500) : around + 200]
    assert leaks(folder, own) == []


@pytest.mark.parametrize(("texts", "told"), CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_what_does_not_load_tells_no_secret(
    tmp_path: Path,
    home: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    texts: Files,
    told: str,
) -> None:
    caplog.set_level(logging.INFO)
    project = files(tmp_path / "project", texts)
    own = dict.fromkeys(project.rglob("*"))
    seen = [shown(lambda: Location(AutomationSettings(project=project)))]
    seen += commands(project, home)
    seen += [*capfd.readouterr(), caplog.text]
    check("\n".join(seen), tmp_path, own, told)


SETTINGS: Mapping[str, tuple[str, str]] = {
    "a line of a file that is no YAML": (f"retry:\n  password: [{PASSWORD}\n", "line 3"),
    "a file that holds a password alone": (PASSWORD, "not a mapping"),
    "a password among the settings": (f"retry: {{password: {PASSWORD}}}", "automation.yaml=***"),
    "a password below a setting": (f"timezone: {{password: {PASSWORD}}}", "timezone"),
    "a URL in place of a name": (f"environment: postgresql://u:{PASSWORD}@h/d", "u:***@h"),
    "a URL among the rules": (f"models: {{'*': {{url: 'pg://u:{PASSWORD}@h'}}}}", "u:***@h"),
    "a gateway's name": (f"gateway: pg://u:{PASSWORD}@h", "u:***@h"),
}


@pytest.mark.parametrize(("text", "told"), SETTINGS.values(), ids=SETTINGS)
def test_settings_that_are_refused_tell_no_secret(
    tmp_path: Path, home: Path, capfd: pytest.CaptureFixture[str], text: str, told: str
) -> None:
    project = files(tmp_path / "project", {})
    file = tmp_path / "automation.yaml"
    file.write_text(text)
    seen = [shown(lambda: Location(AutomationSettings(project=project, config=file)))]
    seen += [*commands(project, home, SQLMESH_AUTOMATION_CONFIG=file), *capfd.readouterr()]
    check("\n".join(seen), tmp_path, {file: ()}, told)


FAILING = (
    "import os\nfrom sqlmesh import model\nimport pandas as pd\n"
    + """
@model("shop.bad", kind="FULL", cron="@daily", columns={"id": "int"})
def execute(context, **kwargs):
    if os.environ.get("FAIL") == "model":
        raise ValueError("no access for " + os.environ["CANARY"])
    return pd.DataFrame({"id": [1]})
"""
)
SIGNAL = (
    "import os\nfrom sqlmesh import signal\n"
    + """
@signal()
def ready(batch):
    if os.environ.get("FAIL") == "signal":
        raise ValueError("no access for " + os.environ["CANARY"])
    return True
"""
)
ORDERS = """
MODEL (name shop.orders, kind FULL, cron '@daily', signals (ready()),
  audits (not_null(columns := (id))));
SELECT CAST(id AS INT) AS id, LENGTH(@secret_token) AS sqlcanary FROM raw.orders
"""
WORKING: Files = {
    "models/bad.py": FAILING,
    "signals/s.py": SIGNAL,
    "models/orders.sql": ORDERS,
    "models/after.sql": "MODEL (name shop.after, cron '@daily'); SELECT id FROM shop.orders",
    "config.yaml": CONFIG
    + f"variables: {{secret_token: '{PASSWORD}'}}\n"
    + "before_all: [\"SELECT * FROM raw.before WHERE x <> '{{ env_var('CANARY') }}'\"]\n"
    + "after_all: [\"SELECT 1 sqlcanary FROM raw.finish WHERE x != '{{ env_var('CANARY') }}'\"]\n",
}
RAW = (
    "CREATE TABLE raw.orders AS SELECT '1' AS id, 2 AS sqlcanary_of_data",
    "CREATE TABLE raw.before AS SELECT 'x' AS x",
    "CREATE TABLE raw.finish AS SELECT 'x' AS x",
)
FAILURES: Mapping[str, tuple[str, str, str]] = {
    "a Python model": ("model", "SELECT 1", "no access for $CANARY"),
    "a signal": ("signal", "SELECT 1", "no access for $CANARY"),
    "a statement before all": ("", "DROP TABLE raw.before", "before"),
    "a statement after all": ("", "DROP TABLE raw.finish", "after_all"),
    "a query": ("", "DROP TABLE raw.orders", "orders"),
    "a value": ("", "UPDATE raw.orders SET id = 'sqlcanary of a value'", "Could not convert"),
    "an audit": ("", "UPDATE raw.orders SET id = NULL", "not_null"),
}


@pytest.mark.slow
@pytest.mark.parametrize("characters", [5000, 0], ids=["with SQL", "without SQL"])
@pytest.mark.parametrize(("fail", "sql", "told"), FAILURES.values(), ids=FAILURES)
def test_what_fails_in_a_run_tells_no_secret_and_sql_only_where_it_is_to_be_shown(
    tmp_path: Path,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    fail: str,
    sql: str,
    told: str,
    characters: int,
) -> None:
    folder = tmp_path / "project"
    texts = {name: text.replace("FOLDER", str(folder)) for name, text in WORKING.items()}
    project = small_project(folder, texts, RAW, at=LONG_AGO)
    own = dict.fromkeys(path for path in project.rglob("*"))  # SQLMesh's state and caches as well
    monkeypatch.setenv("FAIL", fail)
    monkeypatch.setenv("SQLMESH_AUTOMATION_DESCRIPTION_SQL_CHARACTERS", str(characters))
    caplog.set_level(logging.WARNING)
    execute_sql(project, sql)
    capfd.readouterr()
    seen = [*commands(project, home), *jobs(project, home), *capfd.readouterr(), caplog.text]
    check("\n".join(seen), tmp_path, own, told)
    if characters == 0:
        assert "sqlcanary" not in "\n".join(seen)
        stored = [path for path in home.rglob("*") if path.is_file()]
        assert stored
        assert [path for path in stored if b"sqlcanary" in path.read_bytes()] == []


def jobs(project: Path, home: Path) -> Iterator[str]:
    """What the sensor's tick and the jobs that people launch raise; their runs are stored."""
    location = Location(AutomationSettings(project=project))
    with dg.DagsterInstance.from_config(str(home)) as instance:
        repository = location.definitions.get_repository_def()
        context = dg.build_sensor_context(instance=instance, repository_def=repository)
        yield shown(lambda: location.sensor.evaluate_tick(context))
        restate = location.definitions.resolve_job_def("sqlmesh_prod_restate")
        config = {"models": ["shop.*"], "start": "2024-01-01", "dry_run": False}
        result = restate.execute_in_process(
            instance=instance,
            run_config={"ops": {"sqlmesh_prod_restate_models": {"config": config}}},
            raise_on_error=False,
        )
        for event in result.all_events:
            yield str(event)
