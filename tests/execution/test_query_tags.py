"""Every query that a run has the warehouse do carries the id of the Dagster run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from support import projects
from support.outcome_helpers import NEXT_DAY, RAW_DAYS, Count, small_project
from support.ticks import Automation

from dagster_sqlmesh_automation.assets.evaluation.plans import Restatement, restate
from dagster_sqlmesh_automation.assets.lease.waiting import Wait

_TAG = re.compile(r"^/\* (SQLMESH_\w+): (\S+) \*/ ")
PYTHON = """\
from sqlmesh import model


@model("tiny.python", kind="FULL", cron="@daily", columns={"x": "int"}, depends_on={"tiny.sql"})
def execute(context, start, end, execution_time, **kwargs):
    return context.fetchdf(f"SELECT x AS from_python FROM {context.resolve_table('tiny.sql')}")
"""
SIGNAL = """\
from sqlmesh import signal


@signal()
def loaded(batch, context):
    return bool(context.engine_adapter.fetchone("SELECT 1 AS from_signal"))
"""
AUDITED = """\
MODEL (
  name tiny.sql, kind FULL, cron '@daily', signals (loaded()), audits (not_null(columns := x))
);
CREATE TEMP TABLE IF NOT EXISTS from_pre AS SELECT 1 AS y;
SELECT 1 AS x
"""
FILES = {
    "signals/__init__.py": SIGNAL,
    "models/sql.sql": AUDITED,
    "models/python.py": PYTHON.replace("from_python", "x"),
    "models/incremental.sql": (
        "MODEL (name tiny.days, kind INCREMENTAL_BY_TIME_RANGE (time_column day), cron '@daily');"
        "SELECT day FROM raw.days WHERE day BETWEEN @start_ds AND @end_ds"
    ),
}
MODELS = ["tiny/sql", "tiny/python", "tiny/days"]


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, str]]:
    """What is executed by SQLMesh's adapters: kind and id of the tag, and the statement."""
    from sqlmesh.core.engine_adapter.base import EngineAdapter

    statements: list[tuple[str, str, str]] = []
    original = EngineAdapter._execute

    def execute(self: Any, sql: str, *args: Any, **kwargs: Any) -> Any:
        kind, run_id = match.groups() if (match := _TAG.match(sql)) else ("", "")
        statements.append((kind, run_id, _TAG.sub("", sql)))
        return original(self, sql, *args, **kwargs)

    monkeypatch.setattr(EngineAdapter, "_execute", execute)
    return statements


def project_of(folder: Path, tasks: int = 1) -> Path:
    project = small_project(folder, FILES, [RAW_DAYS], tasks=tasks)
    config = project / "config.yaml"
    config.write_text(f"{config.read_text()}before_all: [SELECT 1 AS from_before_all]\n")
    projects.plan(project, projects.PLANNED_AT)
    return project


def kinds(executed: list[tuple[str, str, str]], tag: str) -> list[str]:
    """What the statements with a tag begin with, names of tables left out."""
    return sorted(sql.split('"')[0] for kind, _, sql in executed if kind == tag)


@pytest.mark.parametrize("tasks", [1, 4])
@pytest.mark.in_thread
def test_all_that_a_run_has_the_warehouse_do_carries_its_id_as_sqlmesh_run_tags_it(
    tmp_path: Path,
    instance: dg.DagsterInstance,
    executed: list[tuple[str, str, str]],
    executions: Count,
    tasks: int,
) -> None:
    ours, theirs = (project_of(tmp_path / name, tasks) for name in ("small", "other"))
    shop = Automation.of(ours, instance)
    executed.clear()
    projects.sqlmesh_run(theirs, NEXT_DAY)
    expected = kinds(executed, "SQLMESH_RUN")
    assert len(expected) > 10
    executed.clear()
    before = executions()

    run = shop.run(MODELS, NEXT_DAY)

    assert run.success
    assert {(kind, run_id) for kind, run_id, _ in executed} == {
        ("SQLMESH_RUN", run.run_id),
        ("", ""),
    }
    assert kinds(executed, "SQLMESH_RUN") == expected
    tagged = [sql for kind, _, sql in executed if kind]
    for what in ("from_signal", "from_pre", "from_before_all", " IS NULL", "tiny__days"):
        assert any(what in sql for sql in tagged), what
    # SQLMesh's state, and nothing of the models.
    untagged = [sql for kind, _, sql in executed if not kind]
    assert not [sql for sql in untagged if "sqlmesh__tiny" in sql and "_snapshots" not in sql]
    assert executions() == before + 1


@pytest.mark.in_thread
def test_two_runs_in_one_process_have_an_id_each_and_ticks_have_none(
    tmp_path: Path, instance: dg.DagsterInstance, executed: list[tuple[str, str, str]]
) -> None:
    shop = Automation.of(project_of(tmp_path / "small"), instance)
    executed.clear()
    ids = set()
    for day in range(2):
        at = NEXT_DAY.replace(day=NEXT_DAY.day + day)
        shop.location.planner.plan(instance, at)
        assert not {run_id for _, run_id, _ in executed if run_id}
        run = shop.run(MODELS, at)
        assert {run_id for _, run_id, _ in executed if run_id} == {run.run_id}
        ids.add(run.run_id)
        executed.clear()
    assert len(ids) == 2


def test_a_restatement_carries_the_id_of_the_run_that_asks_for_it(
    tmp_path: Path, instance: dg.DagsterInstance, executed: list[tuple[str, str, str]]
) -> None:
    project = project_of(tmp_path / "small")
    settings = Automation.of(project, instance).location.settings
    executed.clear()

    restate(
        settings,
        Restatement(["tiny.days"], "2026-10-12", "2026-10-13", dry_run=False),
        wait=Wait(1),
        run_id="the-run",
    )

    written = [row for row in executed if "sqlmesh__tiny" in row[2] and row[2].startswith("INSERT")]
    assert written
    assert {row[:2] for row in written} == {("SQLMESH_RUN", "the-run")}
    assert {row[:2] for row in executed} == {("SQLMESH_RUN", "the-run"), ("", "")}
