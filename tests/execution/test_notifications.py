"""SQLMesh's notification targets are told of runs, as ``sqlmesh run`` tells them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from pathlib import Path

import dagster as dg
import pytest
from sqlmesh.utils.errors import SQLMeshError
from support import projects
from support.executors import Launch, dagster_home, executions
from support.mixed import MODELS as MIXED, RAW as MIXED_RAW, definitions
from support.statements import RAW, add_statements
from support.targets import TOKEN, add_target, told
from support.ticks import Automation, Run
from support.warehouse import NEXT_DAY, Warehouse, sleeping, warehouse

from dagster_sqlmesh_automation.assets.evaluation import notifications
from dagster_sqlmesh_automation.assets.ledger.ledger import read_history

ASSETS = [f"shop/{name}" for name in ("events", "customers", "totals", "best")]
STARTED = ("info", "SQLMesh run started for environment `prod`.")
ENDED = ("success", "SQLMesh run finished for environment `prod`.")
FAILED = ("failure", "SQLMesh run failed.")
AUDIT = ("failure", "Audit failure.")


@pytest.fixture
def shop(tmp_path: Path) -> Warehouse:
    shop = warehouse(tmp_path / "project", raw=RAW)
    add_statements(shop, "after_all")
    add_target(shop)
    return shop


def run(shop: Warehouse, instance: dg.DagsterInstance, **settings: bool) -> Run:
    return Automation.of(shop.project, instance, **settings).run(ASSETS, NEXT_DAY)


def messages(project: Path) -> list[tuple[str, str]]:
    return [(status, message) for status, message, _ in told(project)]


def ran_by_sqlmesh(shop: Warehouse, folder: Path) -> list[tuple[str, str]]:
    """What the target is told by SQLMesh's own ``run`` on a copy of the project."""
    shutil.copytree(shop.project, folder)
    base = folder / "base.yaml"
    base.write_text(base.read_text().replace(str(shop.project), str(folder)))
    with contextlib.suppress(SQLMeshError):  # of after_all
        projects.sqlmesh_run(folder, NEXT_DAY)
    return messages(folder)


@pytest.mark.parametrize(
    ("failing", "expected"),
    [
        pytest.param((), [STARTED, ENDED], id="success"),
        pytest.param(("shop.totals",), [STARTED, FAILED], id="a model fails"),
        pytest.param(("shop.totals audit",), [STARTED, AUDIT, FAILED], id="an audit fails"),
        pytest.param(("after_all",), [STARTED, FAILED], id="after_all fails"),
    ],
)
def test_targets_are_told_as_by_sqlmesh_run(
    shop: Warehouse,
    tmp_path: Path,
    instance: dg.DagsterInstance,
    failing: tuple[str, ...],
    expected: list[tuple[str, str]],
) -> None:
    shop.fail(*failing)
    assert ran_by_sqlmesh(shop, tmp_path / "plain") == expected
    done = run(shop, instance)

    assert done.success == (not failing)
    assert messages(shop.project) == expected
    if "after_all" in failing:
        assert "'after_all' statement" in told(shop.project)[-1][2]


def test_a_run_that_has_nothing_to_do_tells_its_start_alone_as_sqlmesh_does(
    shop: Warehouse, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    assert run(shop, instance).success
    (shop.project / "told").unlink()
    assert ran_by_sqlmesh(shop, tmp_path / "plain") == [STARTED]
    assert run(shop, instance).success
    assert messages(shop.project) == [STARTED]


def test_switched_off_nobody_is_told_not_even_of_audits(
    shop: Warehouse, instance: dg.DagsterInstance
) -> None:
    shop.fail("shop.totals audit")
    assert not run(shop, instance, notifications=False).success
    assert told(shop.project) == []


def test_a_run_of_several_executions_is_told_once(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    shop = warehouse(tmp_path / "project", models=MIXED, raw=MIXED_RAW)
    add_target(shop)
    job = definitions(shop.project, dg.in_process_executor).resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(
        instance=instance, tags={"sqlmesh/execution_time": NEXT_DAY.isoformat()}
    )

    assert read_history(instance, result.run_id, "sqlmesh_prod").executions == 3
    assert messages(shop.project) == [STARTED, ENDED]


def test_a_run_that_another_process_takes_over_is_told_once(tmp_path: Path) -> None:
    models = {
        "models/one.py": sleeping("slow.one"),
        "models/other.py": sleeping("slow.other"),
    }
    shop = warehouse(tmp_path / "project", models=models, tasks=1)
    add_target(shop)
    home = dagster_home(tmp_path / "home")
    held = shop.project / "gate" / "slow.one"
    held.mkdir(parents=True)
    with Launch(shop.project, home, "multiprocess_2", at=NEXT_DAY) as launch:
        launch.wait_for((held / "reached").exists)
        executing = launch.executing()
        assert executing is not None
        os.kill(executing, signal.SIGKILL)
        (held / "open").touch()
        launch.finish()

        assert executions(home) == 2, launch.told()
        assert messages(shop.project) == [STARTED, ENDED]


def unreached(done: Run) -> list[str]:
    """The lines of a run's log about targets that could not be told."""
    events = done.events(dg.DagsterEventType.ENGINE_EVENT)
    return [each.message for each in events if each.message.startswith("The notification target")]


def test_a_target_that_raises_is_named_and_fails_nothing(
    shop: Warehouse, instance: dg.DagsterInstance
) -> None:
    """Not even the model whose audit it is told of."""
    (shop.project / "target-raises").touch()
    shop.query("DELETE FROM raw.events")  # the audit of no rows is not blocking
    done = run(shop, instance)

    assert done.success
    assert {each.status.value for each in done.outcomes.values()} == {"executed"}
    lines = unreached(done)
    assert [line.partition(" of ")[2].partition(":")[0] for line in lines] == [
        "run_start",
        "audit_failure",
        "run_end",
    ]
    assert all("FileTarget" in line for line in lines)
    assert all("ConnectionError: no route to /***" in line for line in lines)
    everything = "".join(entry.to_json() for entry in instance.all_logs(done.run_id))
    assert TOKEN not in everything


def test_a_target_that_hangs_holds_the_run_up_for_no_longer_than_the_patience(
    shop: Warehouse, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifications, "PATIENCE_SECONDS", 0.3)
    (shop.project / "target-hangs").touch()
    done = run(shop, instance)
    (shop.project / "target-hangs").unlink()

    assert done.success
    assert [line.rpartition(": ")[2] for line in unreached(done)] == [
        "it has not answered within 0.3 s"
    ] * 2
