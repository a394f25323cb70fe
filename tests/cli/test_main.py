"""The command line: what it prints, what it changes, and the exit codes it ends with."""

from __future__ import annotations

import hashlib
import re
import shutil
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import click
import dagster as dg
import duckdb
import pytest
from click.testing import Result
from filelock import FileLock
from support import projects
from support.schema import Called, call, held_open, invoke, problems, tick_json

from dagster_sqlmesh_automation.automation.cli.main import main

FIRST = "2026-10-14T01:00"
DATABASE = "jaffle_shop.duckdb"
EVERY_FIVE_MINUTES = {"staging.orders", "staging.web_events", "marketing.sessions"}
SEGMENTS, AUDIENCE = "marketing.customer_segments", "marketing.campaign_audience"


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


def recorded(project: Path) -> dict[str, list[tuple[datetime, datetime]]]:
    """The intervals that SQLMesh's state has of each model of prod that is evaluated."""

    def read(context: Any) -> Any:
        state = context.state_sync
        snapshots = state.get_snapshots(state.get_environment("prod").snapshots).values()
        return {
            snapshot.name.replace('"', "").partition(".")[2]: [
                tuple(datetime.fromtimestamp(at / 1000, tz=UTC) for at in interval)
                for interval in snapshot.intervals
            ]
            for snapshot in snapshots
            if snapshot.is_model and not (snapshot.is_external or snapshot.is_embedded)
        }

    intervals: dict[str, list[tuple[datetime, datetime]]] = projects.with_context(project, read)
    return intervals


def gained(project: Path, planned: Path) -> dict[str, list[tuple[datetime, datetime]]]:
    """What the models of a copy have been evaluated for since the plan."""
    before, after = recorded(planned), recorded(project)
    return {
        name: [(before[name][-1][1], intervals[-1][1])]
        for name, intervals in after.items()
        if intervals != before[name]
    }


def query(project: Path, sql: str) -> Any:
    with duckdb.connect(str(project / DATABASE), read_only=True) as connection:
        return connection.execute(sql).fetchone()


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


def test_stdout_is_one_json_object_whether_models_fail_or_not(
    good: Called, failing: Called
) -> None:
    assert (good.code, failing.code) == (0, 1), good.stderr + failing.stderr
    for called in (good, failing):
        assert called.stdout.count("\n") == 1
        assert problems(called.document) == []
    assert good.document["environment"] == "prod"
    assert good.document["at"] == "2026-10-14T01:00:00+00:00"


def test_a_project_that_prints_while_it_loads_does_not_get_into_the_json(example: Path) -> None:
    with (example / "config.py").open("a") as file:
        file.write('\nprint("loading the configuration")\n')
    tick_json(example, "--at", FIRST, "--dry-run")


def test_it_reports_the_one_execution_that_sqlmesh_counted(good: Called, failing: Called) -> None:
    assert good.document["executions"] == good.executions == 1
    assert failing.document["executions"] == failing.executions == 1


def test_due_requested_and_executed_are_what_sqlmesh_itself_runs(
    good: Called, example: Path, planned_example: Path
) -> None:
    projects.sqlmesh_run(example, datetime(2026, 10, 14, 1, tzinfo=UTC))
    expected = gained(example, planned_example)
    models = good.models

    assert gained(good.project, planned_example) == expected
    assert {
        name: [tuple(map(datetime.fromisoformat, interval)) for interval in model["intervals"]]
        for name, model in models.items()
        if model["due"]
    } == expected
    assert {name for name, model in models.items() if model["requested"]} == set(expected)
    assert {name for name, model in models.items() if model["outcome"]} == set(expected)
    assert {model["outcome"] for model in models.values()} == {"executed", None}
    assert set(models) == set(recorded(example))


def test_the_tables_hold_what_was_reported(good: Called) -> None:
    orders = good.models["staging.orders"]
    counted = "COUNT(*) FILTER (ordered_at >= '2026-10-14' AND ordered_at < '2026-10-14 01:00')"
    (raw,) = query(good.project, f"SELECT {counted} FROM raw.orders")
    loaded, last = query(good.project, f"SELECT {counted}, MAX(ordered_at) FROM staging.orders")

    assert loaded == raw > 0
    assert f"{last}" < "2026-10-14 01:00"
    assert orders["rows"] in {raw, None}  # SQLMesh does not count rows on DuckDB
    assert orders["asset_key"] == "staging/orders"


def test_a_failure_is_told_with_its_error_and_what_it_holds_up(failing: Called) -> None:
    models, state = failing.models, recorded(failing.project)

    assert models[SEGMENTS]["outcome"] == "failed"
    assert "JAFFLE_SHOP_FAIL=1 is set" in models[SEGMENTS]["error"]
    assert models[AUDIENCE]["outcome"] == "skipped"
    for name in (SEGMENTS, AUDIENCE):
        assert models.pop(name)["intervals"] == []
        assert state[name][-1][1] == projects.PLANNED_AT
    assert {model["outcome"] for model in models.values()} == {"executed", None}


def test_checks_are_true_of_the_tables(failing: Called) -> None:
    (unpaid,) = query(
        failing.project, "SELECT COUNT(*) FROM finance.reconciliation WHERE unpaid_order_count > 0"
    )
    model = failing.models["finance.reconciliation"]
    checks = {check["name"]: (check["passed"], check["blocking"]) for check in model["checks"]}

    assert unpaid > 0
    assert model["outcome"] == "executed"
    assert checks.pop("assert_no_unpaid_orders") == (False, False)
    assert list(checks.values()) == [(True, True)] * 2
    for reader in ("staging.orders", "staging.payments"):  # the standalone audit reads these
        checks = {check["name"]: check["passed"] for check in failing.models[reader]["checks"]}
        assert checks.pop("assert_every_order_has_payment") is False
        assert set(checks.values()) == {True}


def test_nothing_due_is_success_without_run_or_execution(good: Called) -> None:
    document = tick_json(good.project, "--at", FIRST)
    assert (document["run_id"], document["executions"]) == (None, 0)
    assert not any(model["due"] or model["outcome"] for model in document["models"])


def test_a_run_is_recorded_in_the_instance_of_dagster_home(failing: Called) -> None:
    with dg.DagsterInstance.from_config(str(failing.home)) as instance:
        (run,) = instance.get_runs()
    assert run.run_id == failing.document["run_id"]
    assert run.status is dg.DagsterRunStatus.FAILURE
    assert run.tags["sqlmesh/environment"] == "prod"


def test_a_failed_model_is_held_on_the_next_tick_until_its_next_attempt(failing: Called) -> None:
    def decisions(at: str) -> dict[str, Any]:
        assert failing.home is not None
        arguments = ("--dry-run", "--at", at)
        document = tick_json(failing.project, *arguments, DAGSTER_HOME=failing.home)
        return {model["model"]: model for model in document["models"]}

    soon, later = decisions("2026-10-15T00:05"), decisions("2026-10-15T00:10")

    assert soon["staging.orders"]["requested"]
    assert soon[SEGMENTS]["due"]
    assert f"failed in run {failing.document['run_id']}" in soon[SEGMENTS]["reason"]
    assert "attempt 2 of 3 at 2026-10-15 00:10 UTC" in soon[SEGMENTS]["reason"]
    assert SEGMENTS in soon[AUDIENCE]["reason"]
    for name in (SEGMENTS, AUDIENCE):
        assert not soon[name]["requested"]
        assert later[name]["requested"]


def test_a_dry_run_decides_and_changes_nothing(example: Path, tmp_path: Path) -> None:
    before = digest(example)
    at = "2026-10-14T03:00+02:00"
    document = tick_json(example, "--at", at, "--dry-run", DAGSTER_HOME=tmp_path)

    assert (document["run_id"], document["executions"]) == (None, 0)
    assert document["at"] == "2026-10-14T01:00:00+00:00"
    assert sum(model["requested"] for model in document["models"]) == 7
    assert digest(example) == before
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert instance.get_runs() == []


def test_people_read_every_due_model_and_its_outcome(example: Path) -> None:
    result = invoke("tick", "--project", example, "--at", "2026-10-14T00:05")

    assert result.exit_code == 0
    assert re.search(r"3 of \d+ models due, 3 requested", result.stdout)
    assert set(re.findall(r"([\w.]+) executed: 1 interval", result.stdout)) == EVERY_FIVE_MINUTES
    assert "succeeded, 1 SQLMesh execution\n" in result.stdout


# Exit codes


@pytest.mark.parametrize(
    ("call", "named"),
    [
        pytest.param("tick --at soon", ["'soon'", "2026-11-24T00:05"], id="a bad time"),
        pytest.param("tick --now", ["--now"], id="an unknown option"),
        pytest.param("tik", ["tik"], id="an unknown command"),
        pytest.param("tick --json --project /nowhere", ["/nowhere", "PROJECT"], id="no project"),
        pytest.param("tick --json --environment dev", ["'dev'", "plan dev"], id="never planned"),
        pytest.param("status --gateway nix", ["'nix'", "duckdb"], id="an unknown gateway"),
        pytest.param("prepare --environment a-b", ["ENVIRONMENT", "a-b"], id="a bad setting"),
        pytest.param("tick", ["DAGSTER_HOME", "/missing"], id="no Dagster home"),
    ],
)
def test_usage_and_configuration_end_with_2(example: Path, call: str, named: list[str]) -> None:
    home = {"DAGSTER_HOME": "/missing"} if "/missing" in named else {}
    result = invoke(*call.split(), SQLMESH_AUTOMATION_PROJECT=example, **home)
    message = only_error(result, 2)
    assert all(name in message for name in named), message


def test_a_database_that_another_process_holds_ends_with_3(example: Path) -> None:
    invoke("prepare", "--project", example)
    with held_open(example / DATABASE):
        for command in (["tick", "--json"], ["status"]):
            message = only_error(invoke(*command, "--project", example), 3)
            assert f"{example / DATABASE} is in use by another process" in message
        doctor = invoke("doctor", "--project", example)
    assert doctor.exit_code == 3, doctor.output
    assert f"!! The DuckDB database {example / DATABASE} is in use" in doctor.stdout
    assert "Try again" in doctor.stdout


def test_an_execution_that_holds_the_lease_ends_a_tick_with_3(example: Path) -> None:
    with FileLock(f"{example / DATABASE}.lock"):
        result = invoke("tick", "--project", example, "--at", FIRST, "--json")
    assert str(example / DATABASE) in only_error(result, 3)


# prepare, status, doctor


def test_prepare_reuses_the_manifest_unless_forced(example: Path) -> None:
    loads = example / "loads.txt"
    with (example / "config.py").open("a") as configuration:
        configuration.write(f"open({str(loads)!r}, 'a').write('loaded ')\n")

    def prepare(*arguments: str) -> int:
        """How often the project's configuration was read until the command ended."""
        result = invoke("prepare", "--project", example, *arguments)
        assert result.exit_code == 0, result.output
        counted, _, path = result.stdout.strip().rpartition(": ")
        assert counted == "18 models, 8 external or embedded, 1 standalone audits"
        assert Path(path).is_file()
        return len(loads.read_text().split())

    first = prepare()
    assert prepare() == first
    assert prepare("--force") > first


def test_status_names_every_model_or_the_due_ones_with_a_reason_and_writes_nothing(
    example: Path,
) -> None:
    before = digest(example)
    result = invoke("status", "--project", example, "--at", FIRST)

    assert result.exit_code == 0
    rows = dict(re.findall(r"^(\w+[.\w]*) .*  (\S.*?) *$", result.stdout, re.MULTILINE))
    assert set(rows) >= set(recorded(example)) | {"assert_every_order_has_payment"}
    assert rows["sales.orders"] == "requested: 2026-10-14 00:00 to 2026-10-14 01:00 UTC"
    assert rows["staging.products"] == "up to date; next interval at 2026-10-15 00:00 UTC"
    result = invoke("status", "--project", example, "--at", "2026-10-14T00:05", "--due")
    shown = set(re.findall(r"^(\w+\.\w+) ", result.stdout, re.MULTILINE))
    assert shown == EVERY_FIVE_MINUTES
    assert digest(example) == before


@pytest.mark.parametrize(
    ("arguments", "variables", "code", "expected"),
    [
        pytest.param(
            "", {"SQLMESH_AUTOMATION_ENABLED": "1"}, 0, "automation will be on", id="all in place"
        ),
        pytest.param("", {}, 0, "Switch it on", id="sensor off"),
        pytest.param("", {"DAGSTER_HOME": ""}, 0, "DAGSTER_HOME is not set", id="no Dagster home"),
        pytest.param("", {"DAGSTER_HOME": "/missing"}, 2, "/missing", id="bad Dagster home"),
        pytest.param(
            "--project /nowhere", {}, 2, "Set SQLMESH_AUTOMATION_PROJECT", id="no project"
        ),
        pytest.param("--environment dev", {}, 2, "plan dev", id="never planned"),
        pytest.param("--gateway nix", {}, 2, "Configured gateways: duckdb", id="no gateway"),
    ],
)
def test_doctor_says_what_it_finds_and_the_cure(
    example: Path,
    tmp_path: Path,
    arguments: str,
    variables: dict[str, str],
    code: int,
    expected: str,
) -> None:
    variables = {"DAGSTER_HOME": str(tmp_path), **variables}
    result = invoke("doctor", "--project", example, *arguments.split(), **variables)

    assert result.exit_code == code, result.output
    assert expected in result.stdout
    assert ("!! " in result.stdout) == (code != 0)


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
    text = " ".join(invoke(name, "--help").stdout.split())
    assert len((command.help or "").split()) > 8
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name
            assert re.search(rf"{parameter.opts[0]}[ ,]", text)
            assert parameter.help in text


@pytest.mark.parametrize("command", ["", "tick", "doctor"])
def test_help_lists_the_exit_codes(command: str) -> None:
    shown = invoke(*command.split(), "--help").stdout
    for line in (r"0  \w+", "1  a model failed", "2  usage or configuration", "3  state or"):
        assert re.search(rf"^ *{line}", shown, re.MULTILINE), line


@pytest.mark.parametrize(
    ("command", "example_line"),
    [
        ("", "dagster dev -m dagster_sqlmesh_automation.definitions"),
        ("tick", "sqlmesh-automation tick --dry-run"),
    ],
)
def test_help_shows_examples_that_can_be_copied(command: str, example_line: str) -> None:
    lines = invoke(*command.split(), "--help").stdout.splitlines()
    assert example_line in [line.strip() for line in lines]
