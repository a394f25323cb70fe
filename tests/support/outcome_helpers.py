"""Projects of a few lines, and what Dagster's event log holds for one asset of a run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb

from dagster_sqlmesh_automation.assets.ledger import read_history
from dagster_sqlmesh_automation.config.settings import PREFIX

from . import counting, projects
from .ticks import Automation, Run

T = dg.DagsterEventType
Count = Callable[[], int]

FIVE_PAST = datetime(2026, 10, 14, 0, 5, tzinfo=UTC)
HOUR = datetime(2026, 10, 14, 1, tzinfo=UTC)
NEXT_HOUR = datetime(2026, 10, 14, 2, tzinfo=UTC)
NEXT_DAY = datetime(2026, 10, 15, tzinfo=UTC)

RAW_DAYS = """
CREATE TABLE raw.days AS SELECT day::DATE AS day, '' AS state
FROM GENERATE_SERIES(DATE '2026-10-01', DATE '2026-10-31', INTERVAL 1 DAY) AS days (day)
"""

PATIENCE_SECONDS = 120
"""After this long an event that a test waits for is not going to happen."""

DEFINITIONS = "dagster_sqlmesh_automation.definitions"

CONFIG = """\
gateways:
  duckdb:
    connection: {{type: duckdb, database: "{database}", concurrent_tasks: {tasks}}}
default_gateway: duckdb
model_defaults: {{dialect: duckdb, start: {start:%Y-%m-%d}}}
"""


@dataclass(frozen=True)
class Recorded:
    """What Dagster's event log holds for one asset of a run, and for nothing else.

    Attributes:
        step: ``success``, ``failure``, ``started`` (and not ended) or ``not started``.
        materializations: How many; the run's own.
        checks: ``passed``, ``WARN`` or ``ERROR`` by the audit; by all where it is used twice.
    """

    step: str
    materializations: int = 0
    checks: Mapping[str, str] = field(default_factory=dict)


NOT_STARTED = Recorded("not started")


def day(number: int) -> str:
    """A midnight of October 2026 as metadata spells it."""
    return f"2026-10-{number:02}T00:00:00+00:00"


def recorded(run: Run, asset: str) -> Recorded:
    """What the log holds for an asset, such as ``sales/orders``."""
    step = asset.replace("/", "__")
    made = [event.asset_key.to_user_string() for event in run.events(T.ASSET_MATERIALIZATION)]
    assert run.steps(T.STEP_SKIPPED) == set(), "a skipped step skips all that reads its asset"
    checks: dict[str, set[str]] = {}
    for (key, name), evaluation in run.checks().items():
        if key == asset:
            result = "passed" if evaluation.passed else evaluation.severity.value
            checks.setdefault(_audit(name), set()).add(result)
    return Recorded(
        step="failure"
        if step in run.steps(T.STEP_FAILURE)
        else "success"
        if step in run.steps(T.STEP_SUCCESS)
        else "started"
        if step in run.steps(T.STEP_START)
        else "not started",
        materializations=made.count(asset),
        checks={audit: " and ".join(sorted(results)) for audit, results in checks.items()},
    )


def check(run: Run, asset: str, audit: str) -> Any:
    """The evaluation of an audit that an asset uses once."""
    (found,) = (
        evaluation
        for (key, name), evaluation in run.checks().items()
        if key == asset and _audit(name) == audit
    )
    return found


def _audit(check_name: str) -> str:
    """The audit's name, which its arguments follow."""
    return check_name.partition("__")[0]


def audit_step(automation: Automation) -> str:
    """The step of the example's standalone audit."""
    (audit,) = automation.location.manifest.standalone_audits
    return automation.location.index.op_names[audit.fqn]


def said(run: Run, step: str) -> list[str]:
    """What the layer wrote to a step's log."""
    return [event.message for event in run.events(T.ENGINE_EVENT) if event.step_key == step]


def failure(run: Run, asset: str) -> tuple[str, dict[str, Any]]:
    """Description and metadata of the failure that the layer raised in an asset's step."""
    data = run.failure(asset.replace("/", "__")).user_failure_data
    return data.description, {key: value.value for key, value in data.metadata.items()}


def runless(instance: dg.DagsterInstance, asset: str) -> list[dg.AssetMaterialization]:
    """An asset's materializations that belong to no step, oldest first."""
    found = instance.fetch_materializations(dg.AssetKey(asset.split("/")), limit=100).records
    return [
        record.asset_materialization
        for record in reversed(found)
        if record.asset_materialization is not None and not record.event_log_entry.run_id
    ]


def data_version(materialization: dg.AssetMaterialization) -> str:
    return (materialization.tags or {})["dagster/data_version"]


def sql(project: Path, *statements: str) -> list[Any]:
    """Runs SQL in a project's database, and returns the rows of the last statement."""
    (database,) = project.glob("*.duckdb")
    with duckdb.connect(str(database)) as connection:
        for statement in statements:
            connection.execute(statement)
        return connection.fetchall()


def small_project(
    folder: Path,
    files: Mapping[str, str],
    raw: Iterable[str] = (),
    at: datetime = projects.PLANNED_AT,
    tasks: int = 1,
) -> Path:
    """A project of these files, planned and evaluated up to a moment.

    Args:
        folder: Made for it.
        files: Text of each file by its path.
        raw: SQL for the tables that it reads.
        at: The moment; the project's data begin with the month.
        tasks: How many models SQLMesh evaluates at a time.
    """
    files = {
        "config.yaml": CONFIG.format(
            database=folder / "small.duckdb", tasks=tasks, start=at.replace(day=1)
        ),
        **files,
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    duckdb.connect(str(folder / "small.duckdb")).close()
    sql(folder, "CREATE SCHEMA raw", *raw)
    projects.plan(folder, at)
    return folder


def intervals(project: Path) -> dict[str, list[list[str]]]:
    """What SQLMesh's state holds as evaluated, by the model's name, as metadata spells it."""

    def read(context: Any) -> dict[str, list[list[str]]]:
        environment = context.state_sync.get_environment("prod")
        snapshots = context.state_sync.get_snapshots(environment.snapshots).values()
        context.state_sync.refresh_snapshot_intervals(snapshots)
        return {
            snapshot.model.name: [[_iso(start), _iso(end)] for start, end in snapshot.intervals]
            for snapshot in snapshots
            if snapshot.is_model
        }

    found: dict[str, list[list[str]]] = projects.with_context(project, read)
    return found


def _iso(timestamp_ms: int) -> str:
    return datetime.fromtimestamp(timestamp_ms / 1000, tz=UTC).isoformat()


@dataclass
class Worker:
    """``dagster asset materialize`` of a whole project, in a process group of its own.

    Attributes:
        home: Its ``DAGSTER_HOME``; made for it.
    """

    project: Path
    home: Path

    def __enter__(self) -> Worker:
        self.home.mkdir()
        (self.home / "dagster.yaml").touch()
        self.executions = self.home / "executions.log"
        self.instance = dg.DagsterInstance.from_config(str(self.home))
        self.output = (self.home / "output.log").open("w+")
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                *f"dagster asset materialize -m {DEFINITIONS} --select *".split(),
            ],
            env={
                **{k: v for k, v in os.environ.items() if not k.startswith(PREFIX)},
                "DAGSTER_HOME": str(self.home),
                "SQLMESH_AUTOMATION_PROJECT": str(self.project),
                counting.LOG_VARIABLE: str(self.executions),
                "PYTHONPATH": os.pathsep.join(
                    filter(None, [str(counting.HOOK), os.environ.get("PYTHONPATH")])
                ),
            },
            stdout=self.output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.output.close()
        self.instance.dispose()

    @property
    def run(self) -> Run:
        """Its run, as the instance on disk has it now."""
        (run,) = self.instance.get_runs()
        outcomes = read_history(self.instance, run.run_id).outcomes
        return Run(self.instance, run.run_id, run.is_success, outcomes)

    @property
    def status(self) -> dg.DagsterRunStatus:
        """Its run's status."""
        (run,) = self.instance.get_runs()
        return run.status

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Returns once something has come about, and fails where it no longer can."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            ended = self.process.poll() is not None
            if (ended and not condition()) or time.monotonic() > deadline:
                self.output.seek(0)
                raise AssertionError(f"It never came about. The run said:\n{self.output.read()}")
            time.sleep(0.05)

    def terminate(self) -> None:
        """What a run launcher does when a person terminates the run in the UI."""
        (run,) = self.instance.get_runs()
        self.instance.report_run_canceling(run)
        self.process.send_signal(signal.SIGINT)

    @property
    def leftover_processes(self) -> bool:
        """Whether anything that it started is still there, once it has ended itself."""
        self.process.wait(PATIENCE_SECONDS)
        try:
            os.killpg(self.process.pid, 0)
        except ProcessLookupError:
            return False
        return True
