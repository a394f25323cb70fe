"""A real Dagster deployment: ``dagster dev`` on a free port, asked over GraphQL as the UI does."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
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

_TICKS = """
query ($sensor: InstigationSelector!, $limit: Int!) {
  instigationStateOrError(instigationSelector: $sensor) {
    ... on InstigationState {
      ticks(limit: $limit) {
        tickId status timestamp endTimestamp runIds skipReason error { message stack }
        requestedAssetKeys { path } requestedAssetMaterializationCount
      }
    }
  }
}"""

_TICK_LOG = """
query ($sensor: InstigationSelector!, $tick: ID!) {
  instigationStateOrError(instigationSelector: $sensor) {
    ... on InstigationState { tick(tickId: $tick) { logEvents { events { message level } } } }
  }
}"""

_RUNS = """
query {
  runsOrError {
    ... on Runs {
      results {
        runId status startTime endTime
        tags { key value } assetSelection { path } assetCheckSelection { name assetKey { path } }
      }
    }
  }
}"""

_EVENTS = """
query ($run: ID!) {
  logsForRun(runId: $run) {
    ... on EventConnection {
      events {
        ... on MessageEvent { eventType message }
        ... on EngineEvent { metadataEntries { label ... on TextMetadataEntry { text } } }
      }
    }
  }
}"""


@dataclass(frozen=True)
class LiveTick:
    """One tick as the sensor's page in the UI lists it."""

    tick_id: str
    status: str
    started: datetime
    ended: datetime | None
    run_ids: tuple[str, ...]
    skip_reason: str | None
    error: str | None
    requested: frozenset[str]

    @property
    def is_over(self) -> bool:
        return self.status != "STARTED"


@dataclass(frozen=True)
class LiveRun:
    """One run as the page of runs lists it."""

    run_id: str
    status: str
    tags: Mapping[str, str]
    assets: frozenset[str]
    checks: frozenset[tuple[str, str]]
    seconds: float | None

    @property
    def is_over(self) -> bool:
        return self.status in ("SUCCESS", "FAILURE", "CANCELED")


class Deployment:
    """Webserver, daemon and code server, in a process group that ends with the ``with`` block.

    Args:
        home: ``DAGSTER_HOME``; made for it.
        project: The SQLMesh project.
        settings: Further settings, by the variable's name without its prefix.
    """

    def __init__(self, home: Path, project: Path, **settings: object) -> None:
        self.project = project
        self.executions = home / "executions.log"
        self._home = home
        self._log = home / "dagster_dev.log"
        self._port = _free_port()
        self._environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(_FOREIGN)},
            "DAGSTER_HOME": str(home),
            "DAGSTER_DISABLE_TELEMETRY": "yes",
            "SQLMESH__DISABLE_ANONYMIZED_ANALYTICS": "true",
            f"{PREFIX}PROJECT": str(project),
            **{f"{PREFIX}{name}": str(value) for name, value in settings.items()},
            counting.LOG_VARIABLE: str(self.executions),
            "PYTHONPATH": os.pathsep.join(
                filter(None, [str(counting.HOOK), os.environ.get("PYTHONPATH")])
            ),
        }

    def __enter__(self) -> Deployment:
        self._home.mkdir(parents=True)
        (self._home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
        with self._log.open("w") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "dagster", "dev", "-m", MODULE, "--port", str(self._port)],
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
        if self._process.poll() is None:
            # As Ctrl-C: dagster dev ends its children in order, and a run is not cut off.
            self._process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_END_SECONDS)
        deadline = time.monotonic() + _END_SECONDS
        while _exists(group) and self._process.poll() is not None and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
        self._process.wait()

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
                if found := look():
                    return found
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
            f"http://127.0.0.1:{self._port}/graphql",
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
        """The sensor's ticks so far, oldest first."""
        state = self.query(_TICKS, sensor=_SELECTOR, limit=1000)["instigationStateOrError"]
        return [
            LiveTick(
                tick_id=tick["tickId"],
                status=tick["status"],
                started=_moment(tick["timestamp"]),
                ended=_moment(tick["endTimestamp"]) if tick["endTimestamp"] else None,
                run_ids=tuple(tick["runIds"]),
                skip_reason=tick["skipReason"],
                error=tick["error"] and tick["error"]["message"],
                requested=frozenset("/".join(key["path"]) for key in tick["requestedAssetKeys"]),
            )
            for tick in reversed(state.get("ticks", []))
        ]

    def tick_log(self, tick: LiveTick) -> list[str]:
        """What the tick wrote to its log."""
        state = self.query(_TICK_LOG, sensor=_SELECTOR, tick=tick.tick_id)
        events = state["instigationStateOrError"]["tick"]["logEvents"]["events"]
        return [event["message"] for event in events]

    def runs(self) -> list[LiveRun]:
        """All runs so far, oldest first."""
        return [
            LiveRun(
                run_id=run["runId"],
                status=run["status"],
                tags={tag["key"]: tag["value"] for tag in run["tags"]},
                assets=frozenset("/".join(key["path"]) for key in run["assetSelection"] or ()),
                checks=frozenset(
                    ("/".join(check["assetKey"]["path"]), check["name"])
                    for check in run["assetCheckSelection"] or ()
                ),
                seconds=run["endTime"] - run["startTime"] if run["endTime"] else None,
            )
            for run in reversed(self.query(_RUNS)["runsOrError"]["results"])
        ]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def _moment(timestamp: float) -> datetime:
    return datetime.fromtimestamp(timestamp, tz=UTC)
