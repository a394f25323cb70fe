"""The command line: what it prints, what it changes, and the exit codes it ends with."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import click
import dagster as dg
import duckdb
import pytest
from click.testing import CliRunner, Result
from filelock import FileLock
from support import counting, projects, schema

from dagster_sqlmesh_automation.automation.cli import main

SCRIPT = Path(sys.executable).parent / "sqlmesh-automation"
FIRST = "2026-10-14T01:00"
SPOILED_DAY = date(2026, 10, 14)
FAILING = "2026-10-15T00:00"
DATABASE = "jaffle_shop.duckdb"
SEGMENTS, AUDIENCE = "marketing.customer_segments", "marketing.campaign_audience"

Intervals = dict[str, list[tuple[datetime, datetime]]]


@dataclass(frozen=True)
class Called:
    """A process of the command line that has ended."""

    project: Path
    home: Path | None
    code: int
    stdout: str
    stderr: str
    executions: int

    @property
    def document(self) -> Any:
        return json.loads(self.stdout)

    @property
    def models(self) -> dict[str, Any]:
        return {model["model"]: model for model in self.document["models"]}


def call(project: Path, home: Path | None, at: str, **variables: str) -> Called:
    """``tick --json`` by the installed command, in a process whose executions are counted."""
    log = project.parent / "executions.log"
    foreign = ("SQLMESH", "JAFFLE_SHOP_", "DAGSTER", "PYTHONPATH")
    done = subprocess.run(
        [SCRIPT, "tick", "--json", "--at", at],
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith(foreign)},
            **({"DAGSTER_HOME": str(home)} if home else {}),
            "SQLMESH_AUTOMATION_PROJECT": str(project),
            "PYTHONPATH": str(counting.HOOK),
            counting.LOG_VARIABLE: str(log),
            **variables,
        },
        cwd=project.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return Called(project, home, done.returncode, done.stdout, done.stderr, counting.count(log))


@pytest.fixture(scope="module")
def good(planned_example: Path, tmp_path_factory: pytest.TempPathFactory) -> Called:
    """A tick without ``DAGSTER_HOME`` in which everything succeeds."""
    project = tmp_path_factory.mktemp("good") / "jaffle_shop"
    shutil.copytree(planned_example, project)
    return call(project, None, FIRST)


@pytest.fixture(scope="module")
def failing(planned_example: Path, tmp_path_factory: pytest.TempPathFactory) -> Called:
    """A tick with ``DAGSTER_HOME`` in which a model and audits that do not block fail."""
    project = tmp_path_factory.mktemp("failing") / "jaffle_shop"
    shutil.copytree(planned_example, project)
    projects.example_data().lose_payments(project / DATABASE, date(2026, 10, 14))
    home = project.parent / "home"
    home.mkdir()
    return call(project, home, "2026-10-15T00:00", JAFFLE_SHOP_FAIL="1")


def invoke(*arguments: str | Path, **variables: str | Path) -> Result:
    """Runs the command line in this process."""
    environment = {name: str(value) for name, value in variables.items()}
    try:
        return CliRunner(env={"COLUMNS": "400", **environment}).invoke(
            main, [str(argument) for argument in arguments]
        )
    finally:
        logging.disable(logging.NOTSET)  # what the command switches off is off for the process


def tick_json(project: Path, *arguments: str, **variables: str | Path) -> Any:
    """A successful ``tick --json`` in this process."""
    result = invoke("tick", "--json", "--project", project, *arguments, **variables)
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert schema.problems(document) == []
    return document


@contextmanager
def held_open(database: Path) -> Iterator[None]:
    """Another process has the database open."""
    hold = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('held'); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-uc", hold, database],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        yield
        holder.stdin.close()


def recorded(project: Path) -> Intervals:
    """What SQLMesh's state says of each model of prod."""

    def read(context: Any) -> Intervals:
        snapshots = context.state_sync.get_snapshots(
            context.state_sync.get_environment("prod").snapshots
        )
        return {
            snapshot.name.replace('"', "").partition(".")[2]: [
                (_moment(start), _moment(end)) for start, end in snapshot.intervals
            ]
            for snapshot in snapshots.values()
            if snapshot.is_model and not snapshot.model.kind.is_external
        }

    return projects.with_context(project, read)


def gained(project: Path, planned: Path) -> Intervals:
    """The ends of the models' intervals that a copy has more than the project it came from."""
    before, after = recorded(planned), recorded(project)
    return {
        name: [(before[name][-1][1], intervals[-1][1])]
        for name, intervals in after.items()
        if intervals != before[name]
    }


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, tz=UTC)


def told(model: Any) -> list[tuple[datetime, ...]]:
    return [tuple(map(datetime.fromisoformat, interval)) for interval in model["intervals"]]


def query(project: Path, sql: str) -> Any:
    with duckdb.connect(str(project / DATABASE), read_only=True) as connection:
        return connection.execute(sql).fetchall()


def digest(project: Path) -> str:
    return hashlib.sha256((project / DATABASE).read_bytes()).hexdigest()


def only_error(result: Result, code: int) -> str:
    """The message of a call that failed as it should: one error and nothing on stdout."""
    assert result.exit_code == code, result.output
    assert isinstance(result.exception, SystemExit)
    assert result.stdout == ""
    assert result.stderr.count("Error: ") == 1
    return result.stderr


# tick --json


def test_stdout_is_one_json_object_that_follows_the_schema(calls: Calls) -> None:
    assert calls.good.code == 0, calls.good.stderr
    assert calls.good.stdout.count("\n") == 1
    assert schema.problems(calls.good.document) == []
    assert calls.good.document["environment"] == "prod"
    assert calls.good.document["at"] == "2026-10-14T01:00:00+00:00"


def test_a_failing_model_ends_with_1_and_leaves_stdout_to_the_json_object(calls: Calls) -> None:
    assert calls.failing.code == 1, calls.failing.stderr
    assert calls.failing.stdout.count("\n") == 1
    assert schema.problems(calls.failing.document) == []


def test_a_project_that_prints_while_it_loads_does_not_get_into_the_json(example: Path) -> None:
    with (example / "config.py").open("a") as file:
        file.write('\nprint("loading the configuration")\n')

    result = invoke("tick", "--project", example, "--at", FIRST, "--dry-run", "--json")

    assert "loading the configuration" in result.stderr
    assert schema.problems(json.loads(result.stdout)) == []


def test_it_reports_the_one_execution_that_sqlmesh_counted(calls: Calls) -> None:
    assert calls.good.document["executions"] == calls.good.executions == 1
    assert calls.failing.document["executions"] == calls.failing.executions == 1


def test_due_and_requested_and_executed_are_what_sqlmesh_itself_runs(
    calls: Calls, example: Path, planned_example: Path
) -> None:
    projects.sqlmesh_run(example, datetime(2026, 10, 14, 1, tzinfo=UTC))
    expected = gained(example, planned_example)

    models = calls.good.models
    assert gained(calls.good.project, planned_example) == expected
    assert {name: told(model) for name, model in models.items() if model["due"]} == expected
    assert {name for name, model in models.items() if model["requested"]} == set(expected)
    assert {name for name, model in models.items() if model["outcome"] == "executed"} == set(
        expected
    )
    assert {model["outcome"] for model in models.values()} == {"executed", None}
    assert set(models) == set(recorded(example)) - {"core.order_totals"}  # embedded


def test_the_tables_hold_what_was_reported(calls: Calls) -> None:
    orders = calls.good.models["staging.orders"]
    ((start, end),) = told(orders)
    hour = f"ordered_at >= '{start:%Y-%m-%d %H:%M}' AND ordered_at < '{end:%Y-%m-%d %H:%M}'"
    ((loaded,),) = query(calls.good.project, f"SELECT COUNT(*) FROM staging.orders WHERE {hour}")
    ((raw,),) = query(calls.good.project, f"SELECT COUNT(*) FROM raw.orders WHERE {hour}")
    ((last,),) = query(calls.good.project, "SELECT MAX(ordered_at) FROM staging.orders")

    assert loaded == raw > 0
    assert last < end.replace(tzinfo=None)
    assert orders["rows"] in {raw, None}  # SQLMesh does not count rows on DuckDB
    assert orders["asset_key"] == "staging/orders"


def test_a_failure_is_told_with_its_error_and_what_it_holds_up(calls: Calls) -> None:
    models = calls.failing.models
    planned_until = datetime(2026, 10, 14, tzinfo=UTC)

    assert models[SEGMENTS]["outcome"] == "failed"
    assert "JAFFLE_SHOP_FAIL=1 is set" in models[SEGMENTS]["error"]
    assert models[AUDIENCE]["outcome"] == "skipped"
    for name in (SEGMENTS, AUDIENCE):
        assert models[name]["intervals"] == []
        assert recorded(calls.failing.project)[name][-1][1] == planned_until
    others = {
        model["outcome"] for name, model in models.items() if name not in {SEGMENTS, AUDIENCE}
    }
    assert others == {"executed", None}


def test_checks_are_true_of_the_tables(calls: Calls) -> None:
    models = calls.failing.models
    ((unpaid,),) = query(
        calls.failing.project,
        "SELECT COUNT(*) FROM finance.reconciliation WHERE unpaid_order_count > 0",
    )
    checks = {check["name"]: check for check in models["finance.reconciliation"]["checks"]}

    assert unpaid > 0
    assert models["finance.reconciliation"]["outcome"] == "executed"
    assert (checks.pop("assert_no_unpaid_orders")) == {
        "name": "assert_no_unpaid_orders",
        "passed": False,
        "blocking": False,
    }
    assert len(checks) == 2
    assert all(check["passed"] and check["blocking"] for check in checks.values())
    for reader in ("staging.orders", "staging.payments"):  # the standalone audit reads these
        failed = [check["name"] for check in models[reader]["checks"] if not check["passed"]]
        assert failed == ["assert_every_order_has_payment"]


def test_nothing_due_is_success_without_run_or_execution(calls: Calls) -> None:
    result = invoke("tick", "--project", calls.good.project, "--at", FIRST, "--json")
    document = json.loads(result.stdout)

    assert result.exit_code == 0
    assert schema.problems(document) == []
    assert (document["run_id"], document["executions"]) == (None, 0)
    assert not any(model["due"] or model["outcome"] for model in document["models"])


def test_a_run_is_recorded_in_the_instance_of_dagster_home(calls: Calls) -> None:
    with dg.DagsterInstance.from_config(str(calls.failing_home)) as instance:
        (run,) = instance.get_runs()

    assert run.run_id == calls.failing.document["run_id"]
    assert run.status is dg.DagsterRunStatus.FAILURE
    assert run.tags["sqlmesh/environment"] == "prod"


def test_a_failed_model_is_held_on_the_next_tick_until_its_cron_elapses(calls: Calls) -> None:
    def decisions(at: str) -> dict[str, Any]:
        arguments = ("tick", "--dry-run", "--json", "--project", calls.failing.project, "--at", at)
        result = invoke(*arguments, DAGSTER_HOME=str(calls.failing_home))
        assert result.exit_code == 0, result.output
        return {model["model"]: model for model in json.loads(result.stdout)["models"]}

    soon, later = decisions("2026-10-15T00:05"), decisions("2026-10-16T00:00")

    assert soon["staging.orders"]["requested"]
    assert soon[SEGMENTS]["due"]
    assert not soon[SEGMENTS]["requested"]
    assert f"failed in run {calls.failing.document['run_id']}" in soon[SEGMENTS]["reason"]
    assert "2026-10-16 00:00 UTC" in soon[SEGMENTS]["reason"]
    assert not soon[AUDIENCE]["requested"]
    assert SEGMENTS in soon[AUDIENCE]["reason"]
    assert later[SEGMENTS]["requested"]
    assert later[AUDIENCE]["requested"]


# tick


def test_a_dry_run_decides_and_changes_nothing(example: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    before = digest(example)
    at = "2026-10-14T03:00+02:00"
    result = invoke(
        "tick", "--project", example, "--at", at, "--dry-run", "--json", DAGSTER_HOME=str(home)
    )
    document = json.loads(result.stdout)

    assert result.exit_code == 0
    assert schema.problems(document) == []
    assert (document["run_id"], document["executions"]) == (None, 0)
    assert document["at"] == "2026-10-14T01:00:00+00:00"
    assert sum(model["requested"] for model in document["models"]) == 7
    assert digest(example) == before
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert instance.get_runs() == []


def test_people_read_every_due_model_and_its_outcome(example: Path) -> None:
    result = invoke("tick", "--project", example, "--at", "2026-10-14T00:05")

    assert result.exit_code == 0
    assert "3 of 18 models due, 3 requested" in result.stdout
    for name in ("staging.orders", "staging.web_events", "marketing.sessions"):
        assert f"{name} executed" in result.stdout
    assert "succeeded, 1 SQLMesh execution\n" in result.stdout


# exit codes


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        pytest.param(["tick", "--at", "soon"], ["'soon'", "2026-11-24T00:05"], id="a bad time"),
        pytest.param(["tick", "--now"], ["--now"], id="an unknown option"),
        pytest.param(["tik"], ["tik"], id="an unknown command"),
        pytest.param(
            ["tick", "--json", "--environment", "dev"], ["'dev'", "plan dev"], id="never planned"
        ),
        pytest.param(["status", "--gateway", "nix"], ["'nix'", "duckdb"], id="an unknown gateway"),
        pytest.param(
            ["prepare", "--environment", "a-b"], ["ENVIRONMENT", "'a-b'"], id="a bad setting"
        ),
    ],
)
def test_usage_and_configuration_end_with_2(
    example: Path, arguments: list[str], named: list[str]
) -> None:
    message = only_error(invoke(*arguments, SQLMESH_AUTOMATION_PROJECT=str(example)), 2)
    assert all(name in message for name in named), message


def test_a_missing_project_ends_the_process_with_2_and_one_message(calls: Calls) -> None:
    missing = calls.missing
    assert (missing.code, missing.stdout) == (2, "")
    assert missing.stderr.splitlines() == [
        f"Error: No SQLMesh project at {missing.project}: it is no folder. "
        "Set SQLMESH_AUTOMATION_PROJECT to the folder with the SQLMesh configuration."
    ]


def test_a_database_that_another_process_holds_ends_with_3_and_names_it(calls: Calls) -> None:
    assert calls.locked.code == 3, calls.locked.stderr
    assert calls.locked.stdout == ""
    assert str(calls.locked.project / DATABASE) in calls.locked.stderr
    assert "in use by another process" in calls.locked.stderr
    assert "Traceback" not in calls.locked.stderr


def test_an_execution_that_holds_the_lease_ends_a_tick_with_3(example: Path) -> None:
    with FileLock(f"{example / DATABASE}.lock"):
        result = invoke("tick", "--project", example, "--at", FIRST, "--json")
    assert str(example / DATABASE) in only_error(result, 3)


# prepare


def test_prepare_reuses_the_manifest_unless_forced(example: Path) -> None:
    def prepare(*arguments: str) -> tuple[int, int]:
        result = invoke("prepare", "--project", example, *arguments)
        assert result.exit_code == 0, result.output
        assert result.stdout.startswith("18 models, 8 external or embedded, 1 standalone audits: ")
        written = Path(result.stdout.split(": ")[1].strip()).stat()
        return written.st_ino, written.st_mtime_ns

    first = prepare()
    assert prepare() == first
    assert prepare("--force") != first


# status


def test_status_names_every_model_with_its_reason_and_writes_nothing(example: Path) -> None:
    before = digest(example)
    result = invoke("status", "--project", example, "--at", FIRST)

    assert result.exit_code == 0
    for name in (set(recorded(example)) | {"assert_every_order_has_payment"}) - {
        "core.order_totals"
    }:
        (row,) = re.findall(rf"^{re.escape(name)} .*", result.stdout, re.MULTILINE)
        assert "up to date" in row or "requested: 2026-10-14 00:00 to 2026-10-14 01:00" in row
    assert digest(example) == before


def test_status_shows_only_what_is_due_when_asked(example: Path) -> None:
    result = invoke("status", "--project", example, "--at", "2026-10-14T00:05", "--due")
    shown = set(re.findall(r"^(\w+\.\w+) ", result.stdout, re.MULTILINE))
    assert shown == {"staging.orders", "staging.web_events", "marketing.sessions"}


# doctor


def test_doctor_finds_everything_in_place(example: Path, tmp_path: Path) -> None:
    result = invoke(
        "doctor", "--project", example, DAGSTER_HOME=str(tmp_path), SQLMESH_AUTOMATION_ENABLED="1"
    )

    assert result.exit_code == 0, result.output
    assert "18 models" in result.stdout
    assert "sqlmesh_prod_automation will be on" in result.stdout
    assert [line for line in result.stdout.splitlines() if not line.startswith("ok ")] == []


@pytest.mark.parametrize(
    ("arguments", "variables", "code", "cure"),
    [
        pytest.param(
            ["--project", "nowhere"], {}, 2, "Set SQLMESH_AUTOMATION_PROJECT", id="no project"
        ),
        pytest.param(["--environment", "dev"], {}, 2, "plan dev", id="never planned"),
        pytest.param(["--gateway", "nix"], {}, 2, "Configured gateways: duckdb", id="no gateway"),
        pytest.param([], {"DAGSTER_HOME": "/nowhere"}, 2, "DAGSTER_HOME", id="no Dagster home"),
        pytest.param([], {}, 0, "DAGSTER_HOME is not set", id="advice: no Dagster home set"),
        pytest.param([], {"DAGSTER_HOME": "."}, 0, "Switch it on", id="advice: sensor off"),
    ],
)
def test_doctor_says_what_is_wrong_and_the_cure(
    example: Path,
    tmp_path: Path,
    arguments: list[str],
    variables: dict[str, str],
    code: int,
    cure: str,
) -> None:
    if variables.get("DAGSTER_HOME") == ".":
        variables = {"DAGSTER_HOME": str(tmp_path)}
    result = invoke("doctor", "--project", example, *arguments, **variables)

    assert result.exit_code == code, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert cure in result.stdout
    assert any(line.startswith("!!") for line in result.stdout.splitlines()) == (code != 0)


def test_doctor_names_a_database_in_use_and_ends_with_3(example: Path) -> None:
    invoke("prepare", "--project", example)
    with held_open(example / DATABASE):
        result = invoke("doctor", "--project", example)

    assert result.exit_code == 3, result.output
    assert str(example / DATABASE) in result.stdout
    assert "Try again" in result.stdout


# --help


def test_help_works_without_a_project_and_with_a_broken_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments in ([], *([name] for name in main.commands)):
        result = invoke(*arguments, "--help", SQLMESH_AUTOMATION_INTERVAL_SECONDS="soon")
        assert result.exit_code == 0, arguments
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", main.commands)
def test_help_of_a_command_says_what_it_does_and_explains_every_option(name: str) -> None:
    command = main.commands[name]
    assert command.help is not None
    assert len(command.help.split()) > 8
    text = " ".join(invoke(name, "--help").stdout.split())
    for option in command.params:
        assert isinstance(option, click.Option)
        assert option.opts[0] in text
        assert option.help
        assert option.help in text


@pytest.mark.parametrize("arguments", [[], ["tick"], ["doctor"]])
def test_help_lists_the_exit_codes(arguments: list[str]) -> None:
    lines = [line.strip() for line in invoke(*arguments, "--help").stdout.splitlines()]
    for line in ("0  done", "1  a model failed", "2  usage or configuration", "3  state or"):
        assert any(shown.startswith(line) for shown in lines), line


@pytest.mark.parametrize(
    ("arguments", "example_line"),
    [
        ([], "export SQLMESH_AUTOMATION_PROJECT=/srv/analytics"),
        ([], "dagster dev -m dagster_sqlmesh_automation.definitions"),
        (["tick"], "sqlmesh-automation tick --dry-run"),
    ],
)
def test_help_shows_examples_that_can_be_copied(arguments: list[str], example_line: str) -> None:
    lines = [line.strip() for line in invoke(*arguments, "--help").stdout.splitlines()]
    assert example_line in lines
