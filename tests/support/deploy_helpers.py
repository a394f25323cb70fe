"""The files below ``deploy/``, read and rehearsed without containers."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any, TypeVar

import yaml

from .projects import ROOT

DEPLOY = ROOT / "deploy"
DAGSTER_YAML = DEPLOY / "dagster.yaml"
PROJECT_ENV = DEPLOY / "project.env"
DOCKERFILE = DEPLOY / "docker" / "Dockerfile"
COMPOSE = DEPLOY / "docker" / "docker-compose.yaml"
WORKSPACE = DEPLOY / "docker" / "workspace.yaml"
VALUES = DEPLOY / "kubernetes" / "values.yaml"

PASSWORD = "p@ss/w:rd %41"

_PATIENCE_SECONDS = 120
_END_SECONDS = 20
_VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")

T = TypeVar("T")


def read_yaml(path: Path) -> Any:
    """A YAML file's content."""
    return yaml.safe_load(path.read_text())


def compose(**variables: str) -> Any:
    """The Compose file, with variables as its ``.env`` would set them."""
    return _interpolated(read_yaml(COMPOSE), {"DAGSTER_POSTGRES_PASSWORD": PASSWORD, **variables})


def _interpolated(content: Any, variables: Mapping[str, str]) -> Any:
    def value(match: re.Match[str]) -> str:
        name, operator, rest = match.groups()
        assert name in variables or operator == "-", f"{name} has neither a value nor a default"
        return variables.get(name, rest)

    if isinstance(content, dict):
        return {key: _interpolated(each, variables) for key, each in content.items()}
    if isinstance(content, list):
        return [_interpolated(each, variables) for each in content]
    return _VARIABLE.sub(value, content) if isinstance(content, str) else content


def env_file(path: Path) -> dict[str, str]:
    """The variables of a file ``KEY=value``."""
    lines = [line for line in path.read_text().splitlines() if line and line[0] != "#"]
    return dict(line.split("=", maxsplit=1) for line in lines)


class Dockerfile:
    """The Dockerfile's instructions, ``ARG`` defaults filled in where Docker does so.

    Attributes:
        arguments: The defaults.
    """

    def __init__(self) -> None:
        text = re.sub(r"^\s*#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE)
        lines = re.sub(r"\\\n", " ", text).splitlines()
        self._instructions = [tuple(line.split(maxsplit=1)) for line in lines if line.strip()]
        pairs = (rest.split("=", maxsplit=1) for rest in self.of("ARG"))
        self.arguments = {name: default.strip('"') for name, default in pairs}

    def of(self, keyword: str) -> list[str]:
        """What follows a keyword, in each of its instructions."""
        return [rest for word, rest in self._instructions if word == keyword]

    @property
    def environment(self) -> dict[str, str]:
        """What the image sets."""
        pairs = (pair for rest in self.of("ENV") for pair in rest.split())
        return dict(pair.split("=", maxsplit=1) for pair in pairs)

    @property
    def sources(self) -> list[str]:
        """What it reads from the build's context."""
        found = re.findall(r"type=bind,source=([^,\s]+)", " ".join(self.of("RUN")))
        for rest in self.of("COPY"):
            *copied, _target = [word for word in rest.split() if not word.startswith("--")]
            found += copied
        return [_interpolated(source, self.arguments) for source in found]

    @property
    def command(self) -> list[str]:
        """What a container runs that is not told otherwise."""
        (command,) = self.of("CMD")
        found: list[str] = json.loads(command)
        return found

    @property
    def prepare(self) -> str:
        """The shell command that prepares the manifest."""
        (run,) = (rest for rest in self.of("RUN") if "sqlmesh-automation prepare" in rest)
        return re.sub(r"^(--\S+\s+)*", "", run)


def command_of(service: Mapping[str, Any]) -> list[str]:
    """What a service of the Compose file runs."""
    found: list[str] = service.get("command") or Dockerfile().command
    return found


def option(command: Sequence[str], name: str) -> str:
    """The value of a command's option."""
    return command[command.index(name) + 1]


@contextmanager
def code_server(file: Path) -> Iterator[int]:
    """A code server with the definitions in a file, and with the runs that are sent to it.

    Yields:
        Its port.
    """
    port = str(_free_port())
    dagster = str(Path(sys.executable).parent / "dagster")
    process = subprocess.Popen(
        [dagster, "api", "grpc", "-h", "127.0.0.1", "-p", port, "-f", str(file)],
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        check = [dagster, "api", "grpc-health-check", "-p", port]
        while subprocess.run(check, capture_output=True).returncode:
            assert process.poll() is None, "the code server has ended"
            assert time.monotonic() < deadline, "the code server does not answer"
        yield int(port)
    finally:
        _end([process])


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Ends processes that lead a group, and what is left of their groups."""
    for process in processes:
        process.send_signal(signal.SIGTERM)
    for process in processes:
        with suppress(subprocess.TimeoutExpired):
            process.wait(_END_SECONDS)
        # Runs are in their code server's group.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


class Rehearsal:
    """The Compose services but PostgreSQL, as processes of this machine.

    Runs the commands, health checks, variables and mounts of the files; only folders, ports and
    host names are others. What it started ends with the ``with`` block.

    Args:
        folder: For everything that the containers would have in them.
        project: The SQLMesh project, which holds its DuckDB file.
        postgres: The variables that reach PostgreSQL.
        variables: Those of the Compose file's ``.env``.
    """

    def __init__(
        self, folder: Path, project: Path, postgres: Mapping[str, str], **variables: str
    ) -> None:
        services = compose(**variables)["services"]
        self.manifest = folder / "manifest.json"
        self.home, self.logs = folder / "home", folder / "logs"
        for made in (self.home, self.logs):
            made.mkdir(parents=True)
        self._services = {name: services[name] for name in services if name != "postgres"}
        self._folder, self._postgres = folder, postgres
        self._elsewhere = {
            "/opt/dagster/dagster_home": str(self.home),
            "/opt/sqlmesh/project": str(project),
            "/opt/sqlmesh/manifest.json": str(self.manifest),
            "/var/lib/sqlmesh": str(project),
            "/var/log/dagster": str(self.logs),
            "/run/secrets/project_env": str(folder / "project.env"),
            "code-server": "127.0.0.1",
            "0.0.0.0": "127.0.0.1",
            "4000": str(_free_port()),
            "3000": str(_free_port()),
        }
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Rehearsal:
        return self

    def __exit__(self, *error: object) -> None:
        _end(list(reversed(self._processes.values())))

    @property
    def order(self) -> Iterator[str]:
        """The services, each after those that it depends on."""
        depends = {
            name: set(service["depends_on"]) - {"postgres"}
            for name, service in self._services.items()
        }
        return TopologicalSorter(depends).static_order()

    def prepare(self) -> None:
        """What building the image prepares."""
        (self._folder / "project.env").write_text(self._moved(PROJECT_ENV.read_text()))
        subprocess.run(
            ["/bin/sh", "-ec", self._moved(Dockerfile().prepare)],
            env={**self._image(), "PREPARE": Dockerfile().arguments["PREPARE"]},
            check=True,
        )

    def start(self, name: str) -> None:
        """Mounts a service's files and starts it."""
        service = self._services[name]
        for mount in service["volumes"]:
            source, target, *_ = mount.split(":")
            if source.startswith("."):
                moved = self._moved((COMPOSE.parent / source).read_text())
                Path(self._moved(target)).write_text(moved)
        with (self._folder / f"{name}.log").open("wb") as output:
            self._processes[name] = subprocess.Popen(
                self._local(command_of(service)),
                cwd=self.home,
                env=self._environment(service),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def healthy(self, name: str) -> bool:
        """Whether a service's health check passes."""
        service = self._services[name]
        kind, *command = service["healthcheck"]["test"]
        assert kind == "CMD"
        check = subprocess.run(
            self._local(command), env=self._environment(service), capture_output=True
        )
        return check.returncode == 0

    def wait_for(self, what: str, look: Callable[[], T | None]) -> T:
        """Asks until there is an answer, or a service has ended.

        Args:
            what: Named where it does not come about.
            look: Answers with something false for as long as there is nothing yet.
        """
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not (found := look()):
            ended = [name for name, each in self._processes.items() if each.poll() is not None]
            if ended or time.monotonic() > deadline:
                said = {
                    name: (self._folder / f"{name}.log").read_text(errors="replace")[-3000:]
                    for name in self._processes
                }
                raise AssertionError(f"{what}: never; ended: {ended}\n" + "\n".join(said.values()))
            time.sleep(0.3)
        return found

    def _moved(self, text: str) -> str:
        for there, here in self._elsewhere.items():
            text = text.replace(there, here)
        return text

    def _local(self, command: Sequence[str]) -> list[str]:
        program, *arguments = command
        return [str(Path(sys.executable).parent / program), *map(self._moved, arguments)]

    def _image(self) -> dict[str, str]:
        inherited = {name: os.environ[name] for name in ("HOME", "TMPDIR") if name in os.environ}
        path = os.pathsep.join([str(Path(sys.executable).parent), os.defpath])
        image = {name: self._moved(value) for name, value in Dockerfile().environment.items()}
        return {**inherited, "PATH": path, **image}

    def _environment(self, service: Mapping[str, Any]) -> dict[str, str]:
        files = env_file(COMPOSE.parent / service["env_file"]) if "env_file" in service else {}
        own = {**files, **service["environment"]}
        return {
            **self._image(),
            **{name: self._moved(str(value)) for name, value in own.items()},
            **self._postgres,
        }


def copied(path: Path, folder: Path) -> Path:
    """A copy of a file in a folder, which is made for it."""
    folder.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy(path, folder))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
