"""The deployment below ``deploy/``: what it says, and that it holds on a real PostgreSQL.

Containers and charts are not started here: their files are read, and the Compose services are
rehearsed as processes, with the commands and health checks that the files give them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.run_coordinator.queued_run_coordinator import QueuedRunCoordinator
from dagster._core.scheduler.instigation import TickStatus
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
from dagster._core.test_utils import create_run_for_test, create_test_daemon_workspace_context
from dagster._core.workspace.load_target import GrpcServerTarget
from dagster._daemon.run_coordinator import QueuedRunCoordinatorDaemon
from dagster_postgres import (
    PostgresEventLogStorage,
    PostgresRunStorage,
    PostgresScheduleStorage,
)
from support.deploy_helpers import (
    DAGSTER_YAML,
    PASSWORD,
    Rehearsal,
    code_server,
    copied,
)
from support.postgres import Database

from dagster_sqlmesh_automation import AutomationSettings
from dagster_sqlmesh_automation.assets.definitions.specs import ENVIRONMENT_TAG

MODULE = "dagster_sqlmesh_automation.definitions"
SENSOR = "sqlmesh_prod_automation"
DAGSTER_SERVICES = ("code-server", "daemon", "webserver")

AT_ONCE = AutomationSettings.model_fields["max_concurrent_executions"].default

GATED = """
import os
import time
from pathlib import Path

import dagster as dg


@dg.op
def wait_for_the_gate():
    while not Path(os.environ["GATE"]).exists():
        time.sleep(0.1)


@dg.job(executor_def=dg.in_process_executor)
def gated():
    wait_for_the_gate()


defs = dg.Definitions(jobs=[gated])
"""


@pytest.fixture
def postgres(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The variables that ``dagster.yaml`` reads, for a database that is new."""
    variables = {
        # Without a host, libpq takes the socket's folder from PGHOST.
        "DAGSTER_POSTGRES_HOST": "",
        "PGHOST": database.socket,
        "DAGSTER_POSTGRES_PORT": str(database.port),
        "DAGSTER_POSTGRES_DB": database.name,
        "DAGSTER_POSTGRES_USER": "postgres",
        "DAGSTER_POSTGRES_PASSWORD": PASSWORD,
    }
    for name, value in {**variables, "DAGSTER_COMPUTE_LOGS": str(tmp_path / "logs")}.items():
        monkeypatch.setenv(name, value)
    return variables


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with a copy of ``dagster.yaml``."""
    return copied(DAGSTER_YAML, tmp_path / "home").parent


@pytest.fixture
def production(postgres: dict[str, str], home: Path) -> Iterator[dg.DagsterInstance]:
    """The instance that ``dagster.yaml`` describes."""
    with dg.DagsterInstance.from_config(str(home)) as instance:
        yield instance


def test_runs_events_and_ticks_are_kept_in_postgresql(
    production: dg.DagsterInstance, postgres: dict[str, str]
) -> None:
    runs, events = production.run_storage, production.event_log_storage
    schedules = production.schedule_storage

    assert isinstance(runs, PostgresRunStorage)
    assert isinstance(events, PostgresEventLogStorage)
    assert isinstance(schedules, PostgresScheduleStorage)
    for storage in (runs, events, schedules):
        assert storage._engine.driver == "psycopg2"
        with storage._engine.connect() as connection:
            version = connection.scalar(sqlalchemy.text("SELECT version()"))
            database = connection.scalar(sqlalchemy.text("SELECT current_database()"))
        assert str(version).startswith("PostgreSQL ")
        assert database == postgres["DAGSTER_POSTGRES_DB"]
        assert {"runs", "event_logs", "job_ticks"} <= set(
            sqlalchemy.inspect(storage._engine).get_table_names()
        )


def test_a_password_with_special_characters_reaches_postgresql_as_it_is(
    production: dg.DagsterInstance,
) -> None:
    assert isinstance(production.run_storage, PostgresRunStorage)
    assert production.run_storage._engine.url.password == PASSWORD


def test_a_run_is_recorded_and_read_back_by_another_process_of_the_deployment(
    production: dg.DagsterInstance, home: Path
) -> None:
    @dg.op
    def speak(context):  # type: ignore[no-untyped-def]
        # Not Dagster's logger by name: other tests of the process may have set its level.
        context.log.info("said in the run")

    @dg.job
    def trivial() -> None:
        speak()

    result = trivial.execute_in_process(instance=production)

    with dg.DagsterInstance.from_config(str(home)) as another:
        run = another.get_run_by_id(result.run_id)
        events = another.all_logs(result.run_id)
    assert run is not None
    assert run.status is dg.DagsterRunStatus.SUCCESS
    assert "said in the run" in [event.user_message for event in events]
    assert {"RUN_START", "STEP_SUCCESS", "RUN_SUCCESS"} <= {
        event.dagster_event.event_type_value.replace("PIPELINE", "RUN")
        for event in events
        if event.dagster_event
    }


def test_as_many_runs_of_an_environment_start_as_may_execute_at_once(
    production: dg.DagsterInstance,
) -> None:
    assert isinstance(production.run_coordinator, QueuedRunCoordinator)
    queue = production.get_concurrency_config().run_queue_config
    assert queue is not None
    assert queue.max_concurrent_runs == 10
    assert queue.max_user_code_failure_retries == 3
    assert queue.tag_concurrency_limits == [
        {"key": ENVIRONMENT_TAG, "value": {"applyLimitPerUniqueValue": True}, "limit": AT_ONCE}
    ]


def test_runs_are_monitored_and_neither_resumed_nor_retried(
    production: dg.DagsterInstance,
) -> None:
    assert production.run_monitoring_enabled
    assert production.run_monitoring_start_timeout_seconds == 180
    assert production.run_monitoring_cancel_timeout_seconds == 1800
    assert production.run_monitoring_max_runtime_seconds == 86400
    assert production.run_monitoring_poll_interval_seconds == 60
    assert production.run_monitoring_max_resume_run_attempts == 0
    assert production.run_monitoring_settings["free_slots_after_run_end_seconds"] == 300
    assert not production.run_retries_enabled


def test_ticks_are_kept_as_long_as_they_are_of_use(production: dg.DagsterInstance) -> None:
    # SQLMesh's sensor runs in user code, so that Dagster counts it among the sensors.
    assert production.get_tick_retention_settings(InstigatorType.SENSOR) == {
        TickStatus.SKIPPED: 7,
        TickStatus.FAILURE: 30,
        TickStatus.SUCCESS: 90,
        TickStatus.STARTED: 30,
    }


def test_logs_stay_on_disk_and_usage_is_not_reported(
    production: dg.DagsterInstance, tmp_path: Path
) -> None:
    logs = production.compute_log_manager
    assert isinstance(logs, LocalComputeLogManager)
    assert Path(logs.get_captured_local_path(["a", "b"], "err")).is_relative_to(tmp_path / "logs")
    assert production.telemetry_enabled is False


def test_no_more_runs_of_one_environment_are_dequeued_than_may_execute_at_once(
    production: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = tmp_path / "gate"
    monkeypatch.setenv("GATE", str(gate))
    (tmp_path / "gated.py").write_text(GATED)
    with (
        code_server(tmp_path / "gated.py") as port,
        create_test_daemon_workspace_context(
            GrpcServerTarget(host="127.0.0.1", port=port, socket=None, location_name="gated"),
            production,
        ) as workspace,
        QueuedRunCoordinatorDaemon(interval_seconds=1) as daemon,
    ):

        def submit(environment: str) -> str:
            request = workspace.create_request_context()
            (repository,) = request.get_code_location("gated").get_repositories().values()
            remote = repository.get_full_job("gated")
            run = create_run_for_test(
                production,
                job_name="gated",
                remote_job_origin=remote.get_remote_origin(),
                job_code_origin=remote.get_python_origin(),
                tags={ENVIRONMENT_TAG: environment},
            )
            return production.submit_run(run.run_id, request).run_id

        def waiting() -> set[str]:
            queued = dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED])
            return {run.run_id for run in production.get_runs(queued)}

        def finished(run_id: str) -> bool:
            run = production.get_run_by_id(run_id)
            return run is not None and run.is_finished

        *first, last = [submit("prod") for _ in range(AT_ONCE + 1)]
        other = submit("dev")
        try:
            assert waiting() == {*first, last, other}

            list(daemon.run_iteration(workspace))
            assert waiting() == {last}

            list(daemon.run_iteration(workspace))
            assert waiting() == {last}
        finally:
            gate.touch()
            _until(lambda: all(finished(run_id) for run_id in (*first, other)))

        list(daemon.run_iteration(workspace))
        assert waiting() == set()
        _until(lambda: finished(last))

    runs = production.get_runs()
    assert {run.status for run in runs} == {dg.DagsterRunStatus.SUCCESS}


@pytest.mark.slow
def test_the_compose_services_start_in_their_order_and_a_tick_becomes_a_run(
    postgres: dict[str, str], home: Path, example: Path, tmp_path: Path
) -> None:
    variables = {
        "SQLMESH_AUTOMATION_ENABLED": "true",
        "SQLMESH_AUTOMATION_INTERVAL_SECONDS": "5",
    }
    with Rehearsal(tmp_path / "rehearsal", example, postgres, **variables) as rehearsal:
        rehearsal.prepare()
        prepared = rehearsal.manifest.stat()
        order = list(rehearsal.order)
        assert order[0] == "code-server"
        for service in order:
            rehearsal.start(service)
            rehearsal.wait_for(
                f"{service} is healthy", lambda service=service: rehearsal.healthy(service)
            )

        with dg.DagsterInstance.from_config(str(home)) as instance:

            def ended() -> dg.DagsterRun | None:
                return next((run for run in instance.get_runs() if run.is_finished), None)

            run = rehearsal.wait_for("a run of the automation", ended)
            events = {
                event.dagster_event.event_type
                for event in instance.all_logs(run.run_id)
                if event.dagster_event
            }
            (state,) = instance.all_instigator_state()
            ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id)

        assert run.status is dg.DagsterRunStatus.SUCCESS
        assert run.tags[ENVIRONMENT_TAG] == "prod"
        assert run.tags["dagster/sensor_name"] == SENSOR
        assert dg.DagsterEventType.RUN_ENQUEUED in events
        assert dg.DagsterEventType.ASSET_MATERIALIZATION in events
        assert run.run_id in [run_id for tick in ticks for run_id in tick.run_ids]
        # The tick's log, where the webserver reads it.
        assert any(
            "requested" in path.read_text()
            for path in (rehearsal.logs).rglob("*.err")
            if SENSOR in str(path) or "__repository__" in str(path)
        )
        # What the image prepared is what the code server and the run used.
        now = rehearsal.manifest.stat()
        assert (now.st_ino, now.st_mtime_ns) == (prepared.st_ino, prepared.st_mtime_ns)


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 90
    while not holds():
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.2)
