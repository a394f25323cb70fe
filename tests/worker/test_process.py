"""SQLMesh's side in a process of its own: the same outcomes, and nothing left of it."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import dagster as dg
import pytest
from support import counting
from support.executors import Launch, dagster_home, executions, executions_log
from support.odd_models import ABORTS, EXITS, HOARDS, ODD, TELLS, odd_model
from support.warehouse import MODELS, NEXT_DAY, Warehouse, warehouse

from dagster_sqlmesh_automation.config.settings import PREFIX

PROCESS = {f"{PREFIX}ISOLATION": "process"}
SLEEPS = "(folder / 'began').touch(); import time; time.sleep(3600)"


OTHERS = ("shop.events", "shop.customers", "shop.totals", "shop.best")


def shop_with(tmp_path: Path, odd: str, *, tasks: int = 1) -> Warehouse:
    models = {
        **MODELS,
        "models/odd.py": odd_model("shop.odd", odd),
        "models/reader.sql": "MODEL (name shop.reader, kind FULL); SELECT id FROM shop.odd",
    }
    return warehouse(tmp_path / "project", models=models, tasks=tasks)


def launch(
    shop: Warehouse, tmp_path: Path, executor: str = "in_process", **settings: str
) -> Launch:
    (shop.project / ODD).touch()
    home = dagster_home(tmp_path / "home")
    variables = {f"{PREFIX}{name.upper()}": value for name, value in settings.items()}
    return Launch(shop.project, home, executor, at=NEXT_DAY, variables={**variables, **PROCESS})


def statuses(run: Launch) -> dict[str, str]:
    return {name: outcome.status.value for name, outcome in run.run.by_name().items()}


@pytest.mark.parametrize("executor", ["in_process", "multiprocess_2"])
def test_a_run_imports_sqlmesh_in_one_process_which_does_not_import_dagster(
    tmp_path: Path, executor: str
) -> None:
    shop = shop_with(tmp_path, TELLS)
    with launch(shop, tmp_path, executor) as run:
        assert run.finish().success, run.told()
        assert executions(run.home) == 1
        of_model = json.loads((shop.project / "told").read_text())
        assert counting.importers(executions_log(run.home)) == {of_model["pid"]}
        assert not of_model["dagster"]
        assert of_model["pid"] != run.executing()
        assert set(statuses(run).values()) == {"executed"}
        captured = [*Path(run.home).rglob("*.out"), *Path(run.home).rglob("*.err")]
        texts = "".join(path.read_text() for path in captured)
        assert "said by the model" in texts
        assert "logged by the model" in texts
        assert not run.leftover_processes


@pytest.mark.parametrize(
    ("odd", "ending"),
    [(ABORTS, "SIGABRT"), (EXITS, "exit status 7"), (HOARDS, "SIGKILL")],
    ids=["aborts", "exits", "hoards"],
)
def test_a_model_that_ends_the_process_fails_alone(tmp_path: Path, odd: str, ending: str) -> None:
    shop = shop_with(tmp_path, odd)
    with launch(shop, tmp_path) as run:
        done = run.finish()
        assert not done.success
        assert statuses(run) == {
            **dict.fromkeys(OTHERS, "executed"),
            "shop.odd": "failed",
            "shop.reader": "skipped",
        }
        error = done.by_name()["shop.odd"].error or ""
        assert ending in error
        assert "shop.odd" in error
        assert not run.leftover_processes


def test_of_several_models_in_flight_the_one_that_ends_the_process_is_found(
    tmp_path: Path,
) -> None:
    slow = "import time; time.sleep(2)"
    models = {
        "models/odd.py": odd_model("shop.odd", "import time; time.sleep(1)\n" + ABORTS),
        "models/slow.py": odd_model("shop.slow", slow),
    }
    shop = warehouse(tmp_path / "project", models=models, tasks=2)
    with launch(shop, tmp_path) as run:
        run.finish()
        assert statuses(run) == {"shop.odd": "failed", "shop.slow": "executed"}, run.told()


def test_it_ends_with_the_process_of_the_run(tmp_path: Path) -> None:
    shop = shop_with(tmp_path, SLEEPS)
    with launch(shop, tmp_path) as run:
        run.wait_for((shop.project / "began").exists)
        os.kill(run.process.pid, signal.SIGKILL)
        assert not run.leftover_processes


@pytest.mark.slow
def test_a_model_that_sleeps_for_ever_fails_alone(tmp_path: Path) -> None:
    shop = shop_with(tmp_path, SLEEPS, tasks=2)
    rules = json.dumps({"shop.odd": {"max_seconds": 1}})
    with launch(shop, tmp_path, models=rules) as run:
        done = run.finish()
        assert statuses(run) == {
            **dict.fromkeys(OTHERS, "executed"),
            "shop.odd": "failed",
            "shop.reader": "skipped",
        }
        assert "max_seconds" in (done.by_name()["shop.odd"].error or "")
        assert not run.leftover_processes


@pytest.mark.slow
def test_a_model_that_sleeps_for_ever_is_stopped_with_its_run(tmp_path: Path) -> None:
    shop = shop_with(tmp_path, SLEEPS)
    with launch(shop, tmp_path, cancel_grace_seconds="0") as run:
        run.wait_for((shop.project / "began").exists)
        run.terminate()
        run.finish()
        assert run.status is dg.DagsterRunStatus.CANCELED
        assert statuses(run)["shop.odd"] == "cancelled"
        assert "failed" not in statuses(run).values()
        assert not run.leftover_processes
