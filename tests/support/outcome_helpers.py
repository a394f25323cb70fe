"""Projects of a few lines, and what Dagster's event log holds for one asset of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb

from . import projects
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
    materialized = [
        event.asset_key.to_user_string() for event in run.events(T.ASSET_MATERIALIZATION)
    ]
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
        materializations=materialized.count(asset),
        checks={audit: " and ".join(sorted(results)) for audit, results in checks.items()},
    )


def check(run: Run, asset: str, audit: str) -> Any:
    """The evaluation of an audit that an asset uses once."""
    (evaluation,) = (
        result
        for (key, name), result in run.checks().items()
        if key == asset and _audit(name) == audit
    )
    return evaluation


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
    records = instance.fetch_materializations(dg.AssetKey(asset.split("/")), limit=100).records
    return [
        record.asset_materialization
        for record in reversed(records)
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


LONG_AGO = datetime(2024, 1, 2, tzinfo=UTC)
"""Whenever now is, models that were evaluated up to then are due."""

_FULL = "MODEL (name slow.{name}, kind FULL, cron '@daily'); SELECT {columns}"
_HELD = """\
import time
from pathlib import Path

import pandas as pd
from sqlmesh import model


@model("slow.held", kind="FULL", cron="@daily", columns={{"x": "int"}}, depends_on={{"slow.first"}})
def execute(context, start, end, execution_time, **kwargs):
    gate = Path("{gate}")
    if gate.exists():
        (gate / "reached").touch()
        while not (gate / "open").exists():
            time.sleep(0.05)
    return pd.DataFrame({{"x": [1]}})
"""


def held_project(folder: Path, gate: Path) -> Path:
    """A project whose model ``held`` waits at a gate, which is a folder.

    Before it comes ``first``, beside it ``quick``, behind it ``after`` and then ``last``. While
    there is a gate it makes ``reached`` in it, and waits for ``open``.
    """
    files = {
        "models/first.sql": _FULL.format(name="first", columns="1 AS x"),
        "models/held.py": _HELD.format(gate=gate),
        "models/quick.sql": _FULL.format(name="quick", columns="x FROM slow.first"),
        "models/after.sql": _FULL.format(name="after", columns="x FROM slow.held"),
        "models/last.sql": _FULL.format(name="last", columns="x FROM slow.after"),
    }
    project = small_project(folder, files, at=LONG_AGO, tasks=2)
    gate.mkdir()
    return project


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

    by_name: dict[str, list[list[str]]] = projects.with_context(project, read)
    return by_name


def _iso(timestamp_ms: int) -> str:
    return datetime.fromtimestamp(timestamp_ms / 1000, tz=UTC).isoformat()
