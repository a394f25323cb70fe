"""The files below ``deploy/`` among themselves: what one names, another has.

No container and no chart is started here; see ``test_deploy.py`` for what runs.
"""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path
from typing import Any

import pytest
from support.deploy_helpers import (
    COMPOSE,
    DAGSTER_YAML,
    DEPLOY,
    DOCKERFILE,
    PROJECT_ENV,
    VALUES,
    WORKSPACE,
    Dockerfile,
    command_of,
    compose,
    env_file,
    option,
    read_yaml,
)

from dagster_sqlmesh_automation.config.settings import PREFIX, AutomationSettings

MODULE = "dagster_sqlmesh_automation.definitions"
DAGSTER_SERVICES = ("code-server", "daemon", "webserver")


def test_all_dagster_services_are_given_what_dagster_yaml_reads() -> None:
    read = set(re.findall(r"env: (\w+)", DAGSTER_YAML.read_text()))
    assert len(read) == 6
    for service in DAGSTER_SERVICES:
        assert read <= set(compose()["services"][service]["environment"]), service


def test_without_a_password_compose_refuses_to_start() -> None:
    assert COMPOSE.read_text().count("${DAGSTER_POSTGRES_PASSWORD:?") == 2


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


def test_nothing_reports_usage() -> None:
    image = Dockerfile().environment
    assert image["DAGSTER_DISABLE_TELEMETRY"] == "yes"
    assert image["SQLMESH__DISABLE_ANONYMIZED_ANALYTICS"] == "true"
    assert _values()["telemetry"] == {"enabled": False}


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
