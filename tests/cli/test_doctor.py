"""What the doctor finds of the settings, the project, the machine and the Dagster instance."""

from __future__ import annotations

import dataclasses
import json
import shutil
import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.events import DagsterEvent, DagsterEventType, EngineEventData
from dagster._core.remote_origin import (
    GrpcServerCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    InstigatorType,
    TickData,
    TickStatus,
)
from dagster._core.test_utils import create_run_for_test
from dagster._daemon.types import DaemonHeartbeat
from dagster._utils.error import SerializableErrorInfo
from packaging.version import Version
from support import projects
from support.postgres import Database
from support.schema import invoke

from dagster_sqlmesh_automation.automation.cli.deployment import deployment_findings
from dagster_sqlmesh_automation.automation.cli.doctor import (
    environment,
    lease,
    zones,
)
from dagster_sqlmesh_automation.automation.cli.findings import Examined, Finding, ago
from dagster_sqlmesh_automation.automation.cli.versions import (
    NEWEST_TESTED,
    installed_versions,
    version_findings,
)
from dagster_sqlmesh_automation.automation.definitions import Location
from dagster_sqlmesh_automation.config.settings import PREFIX, AutomationSettings

NOW = datetime(2026, 10, 14, 12, tzinfo=UTC)
SENSOR = "sqlmesh_prod_automation"
OTHER_STATE = "mssql"

Findings = Callable[..., list[Finding]]


@pytest.fixture(scope="module")
def project(planned_example: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the example that nothing changes."""
    copy = tmp_path_factory.mktemp("examined") / "jaffle_shop"
    return Path(shutil.copytree(planned_example, copy))


@pytest.fixture
def home(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """An instance on disk."""
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        yield instance


def findings_of(
    project: Path, instance: dg.DagsterInstance, *, lease: bool = True, **settings: Any
) -> list[Finding]:
    """What is found of an instance."""
    location = Location(AutomationSettings(project=project, **settings))
    if not lease:
        location.manifest = dataclasses.replace(location.manifest, state_engine=OTHER_STATE)
    return list(deployment_findings(location, instance, NOW))


def about(findings: list[Finding], words: str) -> list[Finding]:
    return [finding for finding in findings if words in finding.text]


# Daemons


def beat(instance: dg.DagsterInstance, kind: str, age: timedelta, error: str = "") -> None:
    errors = [SerializableErrorInfo(error, [], "Error")] if error else None
    instance.add_daemon_heartbeat(
        DaemonHeartbeat((NOW - age).timestamp(), kind, f"daemon of {kind}", errors)
    )


@pytest.mark.parametrize(
    ("age", "error", "level", "expected"),
    [
        pytest.param(None, "", "advice", "the sensor daemon has never run here", id="never"),
        pytest.param(20, "", "ok", "daemons, last seen: sensor 20 seconds ago", id="alive"),
        pytest.param(
            20, "no code", "advice", "the sensor daemon reports: no code", id="with an error"
        ),
        pytest.param(
            600, "", "problem", "last seen 10 minutes ago: nothing is ticked", id="silent"
        ),
    ],
)
def test_a_daemon_is_known_by_its_heartbeat(
    project: Path, home: dg.DagsterInstance, age: int | None, error: str, level: str, expected: str
) -> None:
    if age is not None:
        beat(home, "SENSOR", timedelta(seconds=age), error)
    (finding,) = about(findings_of(project, home), expected)
    assert finding.level == level
    assert ("dagster-daemon run" in finding.cure) == (level != "ok")


def test_daemons_that_automation_does_not_need_are_not_asked_for(
    project: Path, home: dg.DagsterInstance
) -> None:
    for kind in ("SENSOR", "QUEUED_RUN_COORDINATOR"):
        beat(home, kind, timedelta(seconds=10))
    (finding,) = about(findings_of(project, home), "daemon")
    assert finding.text == (
        "daemons, last seen: sensor 10 seconds ago, queued run coordinator 10 seconds ago"
    )


# The sensor and its ticks


def switch(instance: dg.DagsterInstance, status: InstigatorStatus) -> InstigatorState:
    location = GrpcServerCodeLocationOrigin("127.0.0.1", 4000, None, "analytics")
    origin = RemoteInstigatorOrigin(RemoteRepositoryOrigin(location, "__repository__"), SENSOR)
    return instance.add_instigator_state(InstigatorState(origin, InstigatorType.SENSOR, status))


def tick(
    instance: dg.DagsterInstance,
    state: InstigatorState,
    age: timedelta,
    status: TickStatus = TickStatus.SKIPPED,
    **more: Any,
) -> None:
    instance.create_tick(
        TickData(
            instigator_origin_id=state.instigator_origin_id,
            selector_id=state.selector_id,
            instigator_name=SENSOR,
            instigator_type=InstigatorType.SENSOR,
            status=status,
            timestamp=(NOW - age).timestamp(),
            **more,
        )
    )


def test_a_sensor_that_ticks_is_told_with_its_last_tick(
    project: Path, home: dg.DagsterInstance
) -> None:
    state = switch(home, InstigatorStatus.RUNNING)
    (finding,) = about(findings_of(project, home), "sensor sqlmesh")
    assert finding.text == f"sensor {SENSOR} is on and has not ticked yet"

    tick(home, state, timedelta(minutes=2), TickStatus.SUCCESS, run_ids=["the-run"])
    (finding,) = about(findings_of(project, home), "sensor sqlmesh")
    assert finding.text.endswith("was 2 minutes ago: requested run the-run")

    tick(home, state, timedelta(seconds=30), skip_reason="0 of 18 models due")
    (finding,) = about(findings_of(project, home), "sensor sqlmesh")
    assert (finding.level, finding.text) == (
        "ok",
        f"sensor {SENSOR} is on; its last tick was 30 seconds ago: skipped: 0 of 18 models due",
    )


def test_a_sensor_that_has_not_ticked_for_long_should_tick_more_often(
    project: Path, home: dg.DagsterInstance
) -> None:
    state = switch(home, InstigatorStatus.RUNNING)
    tick(home, state, timedelta(minutes=9), skip_reason="nothing")
    (finding,) = about(findings_of(project, home), "its last tick was 9 minutes ago")
    assert finding.level == "advice"
    (finding,) = about(
        findings_of(project, home, interval_seconds=60), "its last tick was 9 minutes"
    )
    assert finding.level == "ok"


def test_ticks_that_failed_are_counted_and_their_error_is_told(
    project: Path, home: dg.DagsterInstance
) -> None:
    state = switch(home, InstigatorStatus.RUNNING)
    error = SerializableErrorInfo("StateUnavailable: no route to the state", [], "StateUnavailable")
    tick(home, state, timedelta(minutes=3), skip_reason="nothing")
    for minutes in (2, 1):
        tick(home, state, timedelta(minutes=minutes), TickStatus.FAILURE, error=error)
    (finding,) = about(findings_of(project, home), "its last 2 ticks failed, 1 minute ago")
    assert "StateUnavailable: no route to the state" in finding.text
    assert finding.level == "problem"


@pytest.mark.parametrize(
    ("status", "enabled", "expected"),
    [
        (None, False, "is off"),
        (None, True, "will be on when the code location loads"),
        (InstigatorStatus.STOPPED, True, "is off"),
        (InstigatorStatus.DECLARED_IN_CODE, True, "is on"),
    ],
)
def test_the_switch_of_the_ui_wins(
    project: Path,
    home: dg.DagsterInstance,
    status: InstigatorStatus | None,
    enabled: bool,
    expected: str,
) -> None:
    if status:
        switch(home, status)
    (finding,) = about(findings_of(project, home, enabled=enabled), f"sensor {SENSOR}")
    assert expected in finding.text


# Executor, queue, storage


def test_steps_with_processes_of_their_own_are_noticed(
    project: Path, home: dg.DagsterInstance
) -> None:
    (finding,) = about(findings_of(project, home), "executor: ")
    assert finding.level == "ok"

    run = create_run_for_test(home, job_name="job", tags={"sqlmesh/environment": "prod"})
    (finding,) = about(
        findings_of(project, home), "executor: steps run in the run's process, as in"
    )
    home.report_dagster_event(
        DagsterEvent(
            DagsterEventType.STEP_WORKER_STARTING.value,
            "job",
            step_key="step",
            event_specific_data=EngineEventData(),
        ),
        run.run_id,
    )
    (finding,) = about(findings_of(project, home), f"executor: every step of run {run.run_id} had")
    assert "sqlmesh_executor" in finding.cure


def limit(value: Any, count: int) -> str:
    entry = {"key": "sqlmesh/environment", "limit": count}
    if value is not None:
        entry["value"] = value
    return json.dumps({"concurrency": {"runs": {"tag_concurrency_limits": [entry]}}})


EACH = {"applyLimitPerUniqueValue": True}


@pytest.mark.parametrize(
    ("config", "lease", "settings", "level", "expected"),
    [
        pytest.param(
            "{}", True, {}, "ok", "queue: max_concurrent_runs 10, for 4 executions", id="default"
        ),
        pytest.param(
            limit(EACH, 1), True, {}, "advice", "1 at once (sqlmesh/environment)", id="narrower"
        ),
        pytest.param(
            limit(EACH, 1), True, {"max_concurrent_executions": 1}, "ok", "for 1 exec", id="equal"
        ),
        pytest.param(limit("dev", 1), True, {}, "ok", "for 4 executions", id="for another"),
        pytest.param(limit("prod", 2), True, {}, "advice", "runs 2 at once", id="for this one"),
        pytest.param(
            '{"concurrency": {"runs": {"max_concurrent_runs": 3}}}',
            True,
            {},
            "advice",
            "the instance runs 3 at once (max_concurrent_runs)",
            id="few runs in all",
        ),
        pytest.param(
            "{}", False, {}, "problem", "nothing keeps two runs", id="no lease and no limit"
        ),
        pytest.param(
            limit(EACH, 2), False, {}, "problem", "nothing keeps", id="no lease and too high a one"
        ),
        pytest.param(
            limit(None, 1), False, {}, "ok", "for 1 executions at once", id="no lease and a limit"
        ),
        pytest.param(
            '{"run_coordinator": {"module": "dagster._core.run_coordinator", '
            '"class": "DefaultRunCoordinator"}}',
            True,
            {},
            "ok",
            "queue: no limit",
            id="no queue",
        ),
    ],
)
def test_the_queue_is_compared_with_what_may_be_executed_at_once(
    project: Path,
    tmp_path: Path,
    config: str,
    lease: bool,
    settings: dict[str, Any],
    level: str,
    expected: str,
) -> None:
    (tmp_path / "dagster.yaml").write_text(config)
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        findings = about(findings_of(project, instance, lease=lease, **settings), "queue: ")
    (finding,) = about(findings, expected)
    assert finding.level == level


def test_sqlite_is_advised_against_and_postgresql_is_not(
    project: Path, home: dg.DagsterInstance, tmp_path: Path, database: Database
) -> None:
    (finding,) = about(findings_of(project, home), "storage: ")
    assert (finding.level, finding.exit_code) == ("advice", 0)
    assert "PostgreSQL" in finding.cure
    folder = tmp_path / "postgres"
    folder.mkdir()
    (folder / "dagster.yaml").write_text(database.dagster_yaml)
    with dg.DagsterInstance.from_config(str(folder)) as instance:
        (finding,) = about(findings_of(project, instance), "storage: ")
    assert finding == Finding("storage: Postgres")


# Versions

GOOD = {"dagster": "1.13.27", "sqlmesh": "0.236.4"}


@pytest.mark.parametrize(
    ("changed", "expected", "cure"),
    [
        pytest.param({}, "", "", id="good"),
        pytest.param({"dagster": "1.13.24"}, "", "", id="the oldest"),
        pytest.param(
            {"dagster": "1.12.0"}, "dagster 1.12.0 is not supported", "dagster>=", id="too old"
        ),
        pytest.param(
            {"sqlmesh": "0.236.3"},
            "sqlmesh 0.236.3 is not supported",
            "sqlmesh>=0.236.4",
            id="one that admits DuckDB 2",
        ),
    ],
)
def test_versions_are_compared_with_what_is_supported(
    changed: dict[str, str], expected: str, cure: str
) -> None:
    installed = {**GOOD, **changed}
    first, *problems = version_findings(installed)
    shown = f"dagster {installed['dagster']}, sqlmesh {installed['sqlmesh']}"
    assert first == Finding(f"versions: {shown}")
    assert [finding.text for finding in problems] == ([expected] if expected else [])
    assert all(cure in finding.cure and finding.exit_code == 2 for finding in problems)


@pytest.mark.parametrize("name", sorted(NEWEST_TESTED))
def test_a_version_newer_than_the_tested_ones_is_advice(name: str) -> None:
    assert [*version_findings({**GOOD, name: NEWEST_TESTED[name]})][1:] == []
    _, finding = version_findings({**GOOD, name: f"{NEWEST_TESTED[name]}.post1"})
    assert finding.level == "advice"
    assert f"{name} {NEWEST_TESTED[name]}.post1 is newer than {NEWEST_TESTED[name]}" in finding.text


def test_the_tests_run_with_no_version_newer_than_is_said() -> None:
    installed = installed_versions()
    for name, tested in NEWEST_TESTED.items():
        assert Version(installed[name]) <= Version(tested), "raise NEWEST_TESTED"


# SQLMesh's state and the machine


@pytest.fixture(scope="module")
def unfinished(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose plan was killed while it was applied."""
    copy = tmp_path_factory.mktemp("unfinished") / "jaffle_shop"
    shutil.copytree(project, copy)
    projects.begin_plan(copy)
    return copy


@pytest.mark.parametrize(
    ("minutes", "level", "expected"),
    [
        pytest.param({}, "advice", ", no tick tells since when", id="no ticks"),
        pytest.param({61: "0 of 18 models due"}, "ok", "", id="since less than an hour"),
        pytest.param({59: "plan"}, "advice", ", no tick tells since when", id="no older ticks"),
        pytest.param({61: "plan"}, "advice", ", for more than an hour", id="for over an hour"),
        pytest.param(
            {70: "plan", 61: "The DuckDB database is in use"},
            "advice",
            ", for more than an hour",
            id="for over an hour, with ticks that could not read",
        ),
    ],
)
def test_a_plan_that_has_been_applied_for_over_an_hour_is_advised_to_be_applied_again(
    unfinished: Path,
    home: dg.DagsterInstance,
    minutes: dict[int, str],
    level: str,
    expected: str,
) -> None:
    looked_at = examined(unfinished, home)
    state = switch(home, InstigatorStatus.RUNNING)
    for age, skipped in minutes.items():
        reason = looked_at.plan.skip_message if skipped == "plan" else skipped
        tick(home, state, timedelta(minutes=age), skip_reason=reason)

    (finding,) = environment(looked_at)
    assert finding.level == level
    assert f"is at plan unfinished, which is being applied{expected}" in finding.text
    assert ("`sqlmesh plan prod` again" in finding.cure) == (level == "advice")


def examined(project: Path, instance: dg.DagsterInstance, **changed: Any) -> Examined:
    """A project whose manifest says something else."""
    location = Location(AutomationSettings(project=project))
    plan = location.planner.plan(instance, NOW)
    location.manifest = dataclasses.replace(location.manifest, **changed)
    return Examined(location, instance, plan, 0.1)


def test_a_state_without_a_lease_is_told(project: Path, instance: dg.DagsterInstance) -> None:
    (finding,) = lease(examined(project, instance, state_engine=OTHER_STATE))
    assert finding.level == "advice"
    assert "SQLMesh's state on mssql has no locks" in finding.text


def test_a_zone_that_the_machine_does_not_know_is_a_problem(
    project: Path, instance: dg.DagsterInstance
) -> None:
    models = [
        dataclasses.replace(model, cron_tz="Mars/Olympus")
        for model in Location(AutomationSettings(project=project)).manifest.executed
    ]
    problem, shown = zones(examined(project, instance, models=tuple(models)))
    assert (problem.level, shown.level) == ("problem", "ok")
    assert "Mars/Olympus" in problem.text
    assert "tzdata" in problem.cure


# The command


def doctor(project: Path, *arguments: str, code: int = 0, **variables: str) -> list[Any]:
    result = invoke("doctor", "--json", *arguments, "--project", project, **variables)
    assert result.exit_code == code, result.output
    assert result.stdout.count("\n") == 1
    document = json.loads(result.stdout)
    assert document["exit_code"] == code
    return list(document["findings"])


def test_all_of_it_in_json(project: Path, tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text('cron_map: {"@daily": "0 23 * * *"}\ninterval_seconds: 60\n')
    variables = {f"{PREFIX}CONFIG": str(rules), f"{PREFIX}ENABLED": "1"}
    findings = doctor(project, DAGSTER_HOME=str(tmp_path), **variables)
    by_text = {finding["found"]: finding for finding in findings}

    def one(words: str) -> dict[str, str]:
        (text,) = (text for text in by_text if words in text)
        return dict(by_text[text])

    settings = one("settings: ")["found"]
    assert f"project={project} (argument)" in settings
    assert f"enabled=true ({PREFIX}ENABLED)" in settings
    assert f"interval_seconds=60 ({rules})" in settings
    assert settings.endswith("all others have their defaults")
    assert one("environment 'prod' is at plan")["level"] == "ok"
    assert "of the 60 s that Dagster gives it" in one("a tick takes")["found"]
    assert one("lease: SQLMesh's state on duckdb")["level"] == "ok"
    assert "of models' crons America/New_York" in one("time zones: UTC")["found"]
    assert one("CRON_MAP @daily -> 0 23 * * * UTC (10 models)")["level"] == "advice"
    assert one("storage: ")["level"] == "advice"
    assert one("will be on when")["level"] == "ok"
    assert {finding["level"] for finding in findings} == {"ok", "advice"}


def test_without_an_instance_the_deployment_is_not_looked_at(project: Path) -> None:
    findings = doctor(project)
    assert "DAGSTER_HOME is not set" in findings[-1]["found"]
    assert findings[0]["found"].startswith(f"settings: project={project} (argument)")


def test_a_storage_out_of_reach_is_told_in_one_line(project: Path, tmp_path: Path) -> None:
    with socket.socket() as closed:
        # Bound and not listened on, so that nobody else can have it.
        closed.bind(("127.0.0.1", 0))
        url = f"postgresql+psycopg2://u:secret@127.0.0.1:{closed.getsockname()[1]}/dagster"
        (tmp_path / "dagster.yaml").write_text(
            f"storage: {{postgres: {{postgres_url: '{url}'}}}}\ntelemetry: {{enabled: false}}\n"
        )
        findings = doctor(project, code=3, DAGSTER_HOME=str(tmp_path))
    text = findings[-1]["found"]
    assert text.startswith(f"The storage of the Dagster instance DAGSTER_HOME={str(tmp_path)!r} is")
    assert "secret" not in text
    assert "\n" not in text
    assert findings[-1]["do"] == "Try again once it can be reached."


def test_the_limit_of_a_tick_is_the_one_that_is_set(project: Path) -> None:
    findings = doctor(project, code=2, DAGSTER_SENSOR_GRPC_TIMEOUT_SECONDS="0")
    (tick,) = (f for f in findings if "a tick takes" in f["found"])
    assert tick["level"] == "problem"
    assert "DAGSTER_SENSOR_GRPC_TIMEOUT_SECONDS" in tick["do"]


def test_a_manifest_that_cannot_be_kept_is_advice(project: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    place = str(tmp_path / "file" / "manifest.json")
    findings = doctor(project, **{f"{PREFIX}MANIFEST": place})
    (finding,) = [finding for finding in findings if "manifest cannot be kept" in finding["found"]]
    assert (finding["level"], place in finding["found"]) == ("advice", True)
    assert f"set {PREFIX}MANIFEST to a file that can be written" in finding["do"]
    assert not [f for f in doctor(project) if "cannot be kept" in f["found"]]


def test_people_see_advice_and_problems_apart(project: Path) -> None:
    result = invoke("doctor", "--project", project, DAGSTER_SENSOR_GRPC_TIMEOUT_SECONDS="0")
    lines = result.stdout.splitlines()
    assert [line for line in lines if line.startswith("!! a tick takes")]
    assert " ! DAGSTER_HOME is not set" in result.stdout
    assert "   Set it to the folder of your dagster.yaml." in lines


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.4, "just now"),
        (1, "1 second ago"),
        (119, "1 minute ago"),
        (7200, "2 hours ago"),
        (864_000, "10 days ago"),
    ],
)
def test_ages_are_in_words(seconds: float, expected: str) -> None:
    assert ago(timedelta(seconds=seconds)) == expected
