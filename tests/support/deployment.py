"""A real Dagster deployment: ``dagster dev`` on a free port, asked over GraphQL as the UI does."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from dagster_sqlmesh_automation.config.settings import PREFIX

from . import counting

MODULE = "dagster_sqlmesh_automation.definitions"
SENSOR = "sqlmesh_prod_automation"

PATIENCE_SECONDS = 180
"""After this long an event that a test waits for is not going to happen."""

_POLL_SECONDS = 0.3
_END_SECONDS = 20
_FOREIGN = (PREFIX, "DAGSTER_", "JAFFLE_SHOP_")
_SELECTOR = {"repositoryLocationName": MODULE, "repositoryName": "__repository__", "name": SENSOR}

T = TypeVar("T")

# What each query asks for is part of what the UI's own query of that page asks for (1.13).

_TICKS = """
query ($sensor: InstigationSelector!) {
  instigationStateOrError(instigationSelector: $sensor) {
    ... on InstigationState {
      ticks(limit: 1000) {
        tickId status timestamp endTimestamp runIds skipReason error { message }
        requestedAssetKeys { path }
      }
    }
  }
}"""

_TICK_LOG = """
query ($sensor: InstigationSelector!, $tick: ID!) {
  instigationStateOrError(instigationSelector: $sensor) {
    ... on InstigationState { tick(tickId: $tick) { logEvents { events { message } } } }
  }
}"""

_RUNS = """
query {
  runsOrError {
    ... on Runs {
      results {
        runId status startTime endTime tags { key value }
        assetSelection { path } assetCheckSelection { name assetKey { path } }
      }
    }
  }
}"""

_LAUNCH = """
mutation ($params: ExecutionParams!) {
  launchRun(executionParams: $params) { ... on LaunchRunSuccess { run { runId } } __typename }
}"""

_START_SENSOR = """
mutation ($sensor: SensorSelector!) { startSensor(sensorSelector: $sensor) { __typename } }"""

_RELOAD = """
mutation ($location: String!) {
  reloadRepositoryLocation(repositoryLocationName: $location) { __typename }
}"""

_RUN_EVENTS = """
query ($run: ID!) {
  logsForRun(runId: $run) {
    ... on EventConnection {
      events {
        ... on MessageEvent { message }
        ... on EngineEvent { metadataEntries { label ... on TextMetadataEntry { text } } }
      }
    }
  }
}"""

_MATERIALIZATIONS = """
query ($assets: [AssetKeyInput!]!) {
  assetNodes(assetKeys: $assets) {
    assetKey { path }
    assetMaterializations(limit: 100) {
      runId metadataEntries { label ... on TextMetadataEntry { text } }
    }
  }
}"""

_EVALUATIONS = """
query ($asset: AssetKeyInput!) {
  assetConditionEvaluationRecordsOrError(assetKey: $asset, limit: 100) {
    ... on AssetConditionEvaluationRecords {
      records {
        numRequested runIds isLegacy rootUniqueId
        evaluationNodes { uniqueId userLabel expandedLabel numTrue childUniqueIds }
      }
    }
  }
}"""

_HEALTH = """
query {
  instance {
    daemonHealth {
      allDaemonStatuses { daemonType required healthy lastHeartbeatErrors { message } }
    }
  }
}"""


@dataclass(frozen=True)
class LiveTick:
    """One tick as the sensor's page lists it; asset keys such as ``sales/orders``."""

    tick_id: str
    status: str
    started: datetime
    ended: datetime | None
    run_ids: tuple[str, ...]
    skip_reason: str | None
    error: str | None
    requested: frozenset[str]


@dataclass(frozen=True)
class LiveRun:
    """One run as the page of runs lists it."""

    run_id: str
    status: str
    started: datetime | None
    ended: datetime | None
    tags: Mapping[str, str]
    assets: frozenset[str]
    checks: frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Materialization:
    """One materialization as the asset's page lists it, with the metadata that are text."""

    run_id: str
    metadata: Mapping[str, str]


@dataclass(frozen=True)
class Node:
    """One row of the evaluation's table, as the UI's column "Condition" spells it.

    Attributes:
        label: The condition's own label or name.
        whole: What it says where the mouse is on it.
        holds: Whether its result is true.
        children: The rows below it.
    """

    label: str
    whole: str
    holds: bool
    children: tuple[Node, ...]


@dataclass(frozen=True)
class Evaluation:
    """One evaluation of an asset's condition as the asset's page lists it."""

    requested: int
    run_ids: tuple[str, ...]
    root: Node


class Deployment:
    """Webserver, daemon and code server, in a process group that ends with the ``with`` block.

    Args:
        home: ``DAGSTER_HOME``; made for it, or that of one before.
        project: The SQLMesh project.
        settings: Further settings, by the variable's name without its prefix.
        variables: Other variables of its processes.
        dagster_yaml: Further lines of it.
        module: The module that the code location is loaded from; ours if not given.
        python: The interpreter; the tests' own if not given.
    """

    def __init__(
        self,
        home: Path,
        project: Path,
        *,
        variables: Mapping[str, str] | None = None,
        dagster_yaml: str = "",
        module: str = MODULE,
        python: Path | None = None,
        **settings: object,
    ) -> None:
        self._dagster_yaml = f"telemetry: {{enabled: false}}\n{dagster_yaml}"
        self.project, self._module = project, module
        self._python = python or Path(sys.executable)
        self.executions = home / "executions.log"
        self._home = home
        self._log = home / "dagster_dev.log"
        self._port = _free_port()
        self._environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(_FOREIGN)},
            **(variables or {}),
            "DAGSTER_HOME": str(home),
            "SQLMESH__DISABLE_ANONYMIZED_ANALYTICS": "true",
            f"{PREFIX}PROJECT": str(project),
            **{f"{PREFIX}{name}": str(value) for name, value in settings.items()},
            counting.LOG_VARIABLE: str(self.executions),
            "PYTHONPATH": os.pathsep.join(
                # Another interpreter has its own packages.
                filter(None, [str(counting.HOOK), None if python else os.environ.get("PYTHONPATH")])
            ),
        }

    def __enter__(self) -> Deployment:
        self._home.mkdir(parents=True, exist_ok=True)
        (self._home / "dagster.yaml").write_text(self._dagster_yaml)
        with self._log.open("w") as output:
            self._process = subprocess.Popen(
                [
                    str(self._python),
                    "-m",
                    "dagster",
                    "dev",
                    "-m",
                    self._module,
                    "--port",
                    str(self._port),
                ],
                cwd=self._home,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self

    def __exit__(self, *error: object) -> None:
        group = self._process.pid
        try:
            if self._process.poll() is None:
                # As Ctrl-C does: it ends its children in order.
                self._process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_END_SECONDS)
        finally:
            # The code server and a run outlive it for a moment, or for good.
            with suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
            self._process.wait()

    @property
    def process_group(self) -> int:
        """Of all its processes."""
        return self._process.pid

    @property
    def url(self) -> str:
        """Address of the webserver."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def output(self) -> str:
        """All that its processes have written."""
        return self._log.read_text(errors="replace")

    def wait_for(self, what: str, look: Callable[[], T | None]) -> T:
        """Asks until there is an answer, and fails where none can come any more.

        Args:
            what: Named where it does not come about.
            look: Answers with something false for as long as there is nothing yet.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            with suppress(OSError):  # the webserver is on its way
                if answer := look():
                    return answer
            if self._process.poll() is not None or time.monotonic() > deadline:
                tail = "\n".join(self.output.splitlines()[-60:])
                raise AssertionError(f"{what}: it never came about. dagster dev said:\n{tail}")
            time.sleep(_POLL_SECONDS)

    def query(self, query: str, **variables: Any) -> Any:
        """The data of a GraphQL query.

        Raises:
            OSError: The webserver cannot be reached.
        """
        request = urllib.request.Request(
            f"{self.url}/graphql",
            data=json.dumps({"query": query, "variables": variables}).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                answer = json.load(response)
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{error}: {error.read().decode()}") from error
        assert not answer.get("errors"), answer["errors"]
        return answer["data"]

    def ticks(self) -> list[LiveTick]:
        """The sensor's ticks that are over, oldest first."""
        state = self.query(_TICKS, sensor=_SELECTOR)["instigationStateOrError"]
        return [
            LiveTick(
                tick_id=tick["tickId"],
                status=tick["status"],
                started=_moment(tick["timestamp"]),
                ended=_moment(tick["endTimestamp"]) if tick["endTimestamp"] else None,
                run_ids=tuple(tick["runIds"]),
                skip_reason=tick["skipReason"],
                error=tick["error"] and tick["error"]["message"],
                requested=frozenset(_key(key) for key in tick["requestedAssetKeys"]),
            )
            for tick in reversed(state.get("ticks", []))
            if tick["status"] != "STARTED"
        ]

    def wait_for_tick(self, what: str, accept: Callable[[LiveTick], object]) -> LiveTick:
        """The first tick ever, or still to come, that is accepted."""
        return self.wait_for(what, lambda: next(filter(accept, self.ticks()), None))

    def tick_log(self, tick: LiveTick) -> list[str]:
        """What the tick wrote to its log."""
        state = self.query(_TICK_LOG, sensor=_SELECTOR, tick=tick.tick_id)
        events = state["instigationStateOrError"]["tick"]["logEvents"]["events"]
        return [event["message"] for event in events]

    def runs(self) -> list[LiveRun]:
        """All runs, oldest first."""
        return [
            LiveRun(
                run_id=run["runId"],
                status=run["status"],
                started=_moment(run["startTime"]) if run["startTime"] else None,
                ended=_moment(run["endTime"]) if run["endTime"] else None,
                tags={tag["key"]: tag["value"] for tag in run["tags"]},
                assets=frozenset(_key(key) for key in run["assetSelection"] or ()),
                checks=frozenset(
                    (_key(check["assetKey"]), check["name"])
                    for check in run["assetCheckSelection"] or ()
                ),
            )
            for run in reversed(self.query(_RUNS)["runsOrError"]["results"])
        ]

    def start_sensor(self, name: str) -> None:
        """Switches a sensor on."""
        sensor = {"repositoryLocationName": self._module, "repositoryName": "__repository__"}
        answer = self.query(_START_SENSOR, sensor={**sensor, "sensorName": name})
        assert answer["startSensor"]["__typename"] == "Sensor", answer

    def reload(self) -> None:
        """Reloads the code location, as the button does; over once it is loaded."""
        answer = self.query(_RELOAD, location=self._module)
        assert answer["reloadRepositoryLocation"]["__typename"] == "WorkspaceLocationEntry", answer

    def wait_for_run(self, run_id: str) -> LiveRun:
        """A run once it has ended."""

        def ended() -> LiveRun | None:
            run = {run.run_id: run for run in self.runs()}.get(run_id)
            return run if run is not None and run.ended else None

        return self.wait_for(f"the end of run {run_id}", ended)

    def launch(self, assets: Sequence[str], **tags: str) -> str:
        """Launches a run of some assets, as the button "Materialize" does; its id."""
        params = {
            "selector": {
                **{k: v for k, v in _SELECTOR.items() if k != "name"},
                "pipelineName": "__ASSET_JOB",
                "assetSelection": [{"path": asset.split("/")} for asset in assets],
            },
            "mode": "default",
            "executionMetadata": {"tags": [{"key": k, "value": v} for k, v in tags.items()]},
        }
        launched = self.query(_LAUNCH, params=params)["launchRun"]
        run_id: str = launched["run"]["runId"]
        return run_id

    def process_of(self, run: LiveRun) -> int:
        """Id of the process that Dagster started for a run, as the run's log names it."""
        events = self.query(_RUN_EVENTS, run=run.run_id)["logsForRun"]["events"]
        (process,) = (
            int(entry["text"])
            for event in events
            if event["message"].startswith("Started process for run")
            for entry in event["metadataEntries"]
            if entry["label"] == "pid"
        )
        return process

    def executing_processes(self) -> list[int]:
        """Id of the process of each SQLMesh execution, as counted at SQLMesh's scheduler."""
        if not self.executions.exists():
            return []
        return [int(line.split()[0]) for line in self.executions.read_text().splitlines()]

    def materializations(self, assets: frozenset[str]) -> dict[str, list[Materialization]]:
        """The materializations of some assets, newest first."""
        keys = [{"path": asset.split("/")} for asset in assets]
        return {
            _key(node["assetKey"]): [
                Materialization(
                    run_id=made["runId"],
                    metadata={
                        entry["label"]: entry["text"]
                        for entry in made["metadataEntries"]
                        if "text" in entry
                    },
                )
                for made in node["assetMaterializations"]
            ]
            for node in self.query(_MATERIALIZATIONS, assets=keys)["assetNodes"]
        }

    def evaluations(self, asset: str) -> list[Evaluation]:
        """The stored evaluations of an asset's condition, newest first."""
        found = self.query(_EVALUATIONS, asset={"path": asset.split("/")})
        records = found["assetConditionEvaluationRecordsOrError"]["records"]
        assert not any(record["isLegacy"] for record in records), "the UI has another table for it"
        return [
            Evaluation(
                requested=record["numRequested"],
                run_ids=tuple(record["runIds"]),
                root=_node(
                    record["rootUniqueId"],
                    {node["uniqueId"]: node for node in record["evaluationNodes"]},
                ),
            )
            for record in records
        ]

    def unhealthy_daemons(self) -> dict[str, list[str]]:
        """What Dagster's daemons report as wrong, by the daemon's type."""
        statuses = self.query(_HEALTH)["instance"]["daemonHealth"]["allDaemonStatuses"]
        return {
            status["daemonType"]: [error["message"] for error in status["lastHeartbeatErrors"]]
            for status in statuses
            if status["required"] and (not status["healthy"] or status["lastHeartbeatErrors"])
        }


@contextmanager
def database_open_elsewhere(database: Path, statement: str) -> Iterator[int]:
    """Another process that knows nothing of us holds a DuckDB file open, and changes something.

    Yields:
        The process's id.
    """
    script = """
import sys, time, duckdb
while True:
    try:
        connection = duckdb.connect(sys.argv[1])
        break
    except duckdb.IOException:
        time.sleep(0.02)
connection.execute(sys.argv[2])
print("open", flush=True)
sys.stdin.read()
connection.close()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(database), statement],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    giving_up = threading.Timer(PATIENCE_SECONDS, process.kill)
    giving_up.start()
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n", "it could not open the database"
        yield process.pid
        process.communicate(timeout=_END_SECONDS)
    finally:
        giving_up.cancel()
        process.kill()
        process.communicate()


def _node(unique_id: str, nodes: Mapping[str, Any]) -> Node:
    node = nodes[unique_id]
    return Node(
        label=node["userLabel"] or node["expandedLabel"][0],
        whole=" ".join(node["expandedLabel"]),
        holds=node["numTrue"] == 1,
        children=tuple(_node(child, nodes) for child in node["childUniqueIds"]),
    )


def _key(key: Any) -> str:
    return "/".join(key["path"])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _moment(timestamp: float) -> datetime:
    return datetime.fromtimestamp(timestamp, tz=UTC)
