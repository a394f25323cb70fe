"""One odd model stops no other: its signal's package, its gateway, its restatements, its exit()."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
import yaml
from support import projects
from support.outcome_helpers import NEXT_DAY, RAW_DAYS, Count, Recorded, recorded, small_project
from support.ticks import Automation

from dagster_sqlmesh_automation.automation.facts.due import DueReader


def full(name: str, more: str = "") -> dict[str, str]:
    model = f"MODEL (name tiny.{name}, kind FULL, cron '@daily' {more}); SELECT 1 AS x"
    return {f"models/{name}.sql": model}


def reasons(shop: Automation) -> dict[str, str]:
    decisions = shop.location.planner.plan(shop.instance, NEXT_DAY).decisions
    return {decision.name: decision.reason for decision in decisions.values()}


def test_a_signal_whose_package_is_gone_is_named(
    tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shopsignals.py").write_text("ready = True\n")
    monkeypatch.syspath_prepend(tmp_path)
    signal = (
        "import shopsignals\nfrom sqlmesh import signal\n\n\n"
        "@signal()\ndef loaded(batch):\n    return shopsignals.ready\n"
    )
    files = {"signals/__init__.py": signal, **full("held", more=", signals (loaded())")}
    project = small_project(tmp_path / "small", {**files, **full("other")}, [RAW_DAYS])
    shop = Automation.of(project, instance)
    (tmp_path / "shopsignals.py").unlink()
    sys.modules.pop("shopsignals")

    says = "signal loaded: ModuleNotFoundError: No module named 'shopsignals'"
    assert reasons(shop)["tiny.held"] == f"failed: {says}"
    assert reasons(shop)["tiny.other"].startswith("due: ")
    run = shop.run(["tiny/held", "tiny/other"], NEXT_DAY)
    assert run.by_name()["tiny.held"].error == says
    assert recorded(run, "tiny/other") == Recorded("success", 1)


def configure(project: Path, *gateways: str) -> None:
    """A gateway with a DuckDB file of its own for each name; the first is the default."""
    connections = {
        name: {"type": "duckdb", "catalogs": {f"{name}_db": str(project / f"{name}_db.duckdb")}}
        for name in gateways
    }
    config = {
        "gateways": {name: {"connection": value} for name, value in connections.items()},
        "default_gateway": gateways[0],
        "gateway_managed_virtual_layer": True,
        "model_defaults": {"dialect": "duckdb", "start": "2026-10-10"},
    }
    (project / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))


@pytest.mark.parametrize("environment", ["prod", "dev"])
def test_a_model_whose_gateway_the_configuration_lacks_stops_no_other(
    tmp_path: Path, instance: dg.DagsterInstance, environment: str
) -> None:
    project = tmp_path / "project"
    (project / "models").mkdir(parents=True)
    for path, text in {**full("here"), **full("there", more=", gateway other")}.items():
        (project / path).write_text(text)
    configure(project, "main", "other")
    projects.plan(project, projects.PLANNED_AT)
    if environment == "dev":
        projects.plan(project, projects.PLANNED_AT, "dev", include_unmodified=True)
    configure(project, "main")
    shop = Automation.of(project, instance, source="environment", environment=environment)

    says = (
        "gateway other: SQLMeshError: Gateway 'other' not found in the available engine adapters."
    )
    assert reasons(shop)["tiny.there"] == f"failed: {says}"
    assert reasons(shop)["tiny.here"].startswith("due: ")
    keys = {key.path[-1]: "/".join(key.path) for key in shop.location.index.keys.values()}
    run = shop.run([keys["here"], keys["there"]], NEXT_DAY)
    assert run.by_name()["tiny.there"].error == says
    assert recorded(run, keys["here"]) == Recorded("success", 1)


RESTATED = """\
MODEL (
  name tiny.{name}, cron '@daily',
  kind INCREMENTAL_BY_TIME_RANGE (time_column day, auto_restatement_cron '{cron}')
);
SELECT day FROM {reads} WHERE day BETWEEN @start_ds AND @end_ds
"""


@pytest.mark.parametrize("environment", ["prod", "dev"])
def test_a_cron_for_restatements_without_a_next_tick_is_left_out_and_named(
    tmp_path: Path, instance: dg.DagsterInstance, executions: Count, environment: str
) -> None:
    files = {
        "models/weekly.sql": RESTATED.format(name="weekly", cron="0 0 * * 4", reads="raw.days"),
        "models/never.sql": RESTATED.format(name="never", cron="0 0 30 2 *", reads="tiny.weekly"),
    }
    project = small_project(tmp_path / "small", {**files, **full("other")}, [RAW_DAYS])
    if environment == "dev":
        projects.plan(project, projects.PLANNED_AT, "dev", include_unmodified=True)
    shop = Automation.of(project, instance, environment=environment)
    says = (
        "tiny.never is not restated: its auto_restatement_cron '0 0 30 2 *' has no next tick "
        "(failed to find next date)"
    )

    tick, run = shop.tick_and_run(NEXT_DAY)

    assert tick.plan.warnings == [says]
    assert len(tick.requested) == 3
    assert run is not None
    assert run.success
    assert any(says in entry.message for entry in instance.all_logs(run.run_id))
    executed = run.by_name()
    assert {each.status.value for each in executed.values()} == {"executed"}
    assert executions() == 1

    # From the moment of the plan on: what reads a restated model is restated with it.
    ahead = DueReader(shop.location.settings).read(datetime.now(UTC) + timedelta(days=8))
    first = {fqn.split('"')[-2]: due.intervals[0][0] for fqn, due in ahead.due.items()}
    assert (first["weekly"] < projects.PLANNED_AT) == (environment == "prod")
    assert first["never"] == first["weekly"]


EXITS = """\
from sqlmesh import model


@model("tiny.exits", kind="FULL", cron="@daily", columns={"x": "int"})
def execute(context, start, end, execution_time, **kwargs):
    import pandas as pd
    if execution_time.day == 15:
        exit("enough")
    return pd.DataFrame({"x": [1]})
"""


@pytest.mark.parametrize("tasks", [1, 4])
def test_a_python_model_that_calls_exit_fails_alone(
    tmp_path: Path, instance: dg.DagsterInstance, executions: Count, tasks: int
) -> None:
    files = {
        "models/exits.py": EXITS,
        **full("other"),
        **full("another"),
    }
    project = small_project(tmp_path / "small", files, [RAW_DAYS], tasks=tasks)
    shop = Automation.of(project, instance)

    run = shop.run(["tiny/exits", "tiny/other", "tiny/another"], NEXT_DAY)

    assert run.by_name()["tiny.exits"].status == "failed"
    assert "enough" in (run.by_name()["tiny.exits"].error or "")
    assert recorded(run, "tiny/other") == Recorded("success", 1)
    assert recorded(run, "tiny/another") == Recorded("success", 1)
    assert executions() == 1
