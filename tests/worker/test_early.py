"""SQLMesh's process is there before the first step, and only where that is sure to need it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.code_pointer import FileCodePointer
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from dagster._grpc.types import ExecuteRunArgs
from support import counting
from support.executors import PATIENCE_SECONDS, dagster_home, executions, executions_log
from support.warehouse import Warehouse, warehouse

from dagster_sqlmesh_automation.config.settings import PREFIX

FILE = """
import os
from pathlib import Path

import dagster as dg

from dagster_sqlmesh_automation import build_definitions


@dg.asset
def theirs() -> None: ...


defs = dg.Definitions.merge(dg.Definitions(assets=[theirs]), build_definitions())
children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
with Path(os.environ["TOLD"]).open("a") as told:
    print(os.getpid(), *children, file=told)
"""

MODELS = {("shop", name) for name in ("events", "customers", "totals", "best")}
THEIRS = {("theirs",)}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    return warehouse(tmp_path_factory.mktemp("early") / "project")


def started(
    shop: Warehouse, tmp_path: Path, selection: set[tuple[str, ...]], isolation: str, config: Any
) -> tuple[dg.DagsterRun, dict[int, list[int]], Path]:
    """Executes a run as run launchers do, in ``dagster api execute_run``.

    Returns:
        The run, the children that each of its processes had when it had loaded the definitions,
        by process, and the home.
    """
    file = tmp_path / "location.py"
    file.write_text(FILE)
    home, told = dagster_home(tmp_path / "home"), tmp_path / "told"
    variables: Mapping[str, str] = {
        **os.environ,
        "TOLD": str(told),
        "DAGSTER_HOME": str(home),
        f"{PREFIX}PROJECT": str(shop.project),
        f"{PREFIX}ISOLATION": isolation,
        counting.LOG_VARIABLE: str(executions_log(home)),
        "PYTHONPATH": os.pathsep.join(
            filter(None, [str(counting.HOOK), os.environ.get("PYTHONPATH")])
        ),
    }
    with dg.DagsterInstance.from_config(str(home)) as instance:
        pointer = FileCodePointer(str(file), "defs", str(tmp_path))
        with pytest.MonkeyPatch.context() as patch:
            for name in ("TOLD", f"{PREFIX}PROJECT", f"{PREFIX}ISOLATION"):
                patch.setenv(name, variables[name])
            definitions = pointer.load_target()
        assert isinstance(definitions, dg.Definitions)
        told.unlink()
        origin = JobPythonOrigin(
            "__ASSET_JOB",
            RepositoryPythonOrigin(sys.executable, pointer, entry_point=["dagster"]),
        )
        job = definitions.resolve_job_def("__ASSET_JOB")
        keys = {dg.AssetKey(list(path)) for path in selection}
        run = instance.create_run(
            job_name=job.name,
            run_id=None,
            run_config=config,
            status=dg.DagsterRunStatus.STARTING,
            tags={},
            root_run_id=None,
            parent_run_id=None,
            step_keys_to_execute=None,
            execution_plan_snapshot=None,
            job_snapshot=None,
            parent_job_snapshot=None,
            asset_selection=keys,
            # As the sensor requests them: without the checks that its own ticks report.
            asset_check_selection=set(),
            resolved_op_selection=None,
            op_selection=None,
            remote_job_origin=None,
            job_code_origin=origin,
            asset_graph=job.asset_layer.asset_graph,
        )
        command = ExecuteRunArgs(origin, run.run_id, instance.get_ref()).get_command_args()
        done = subprocess.run(
            [sys.executable, "-m", *command],
            env=variables,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        ended = instance.get_run_by_id(run.run_id)
        assert ended is not None
        assert ended.is_success, done.stdout[-4000:] + done.stderr[-4000:]
        lines = [list(map(int, line.split())) for line in told.read_text().splitlines()]
        return ended, {pid: children for pid, *children in lines}, home


def test_a_run_of_models_has_it_once_the_definitions_are_loaded(
    shop: Warehouse, tmp_path: Path
) -> None:
    _, told, home = started(shop, tmp_path, MODELS, "process", {})
    ((child,),) = told.values()
    assert counting.importers(executions_log(home)) == {child}
    assert executions(home) == 1
    assert not Path(f"/proc/{child}").exists()


@pytest.mark.parametrize(
    ("selection", "isolation", "config"),
    [
        (MODELS, "thread", {}),
        (THEIRS, "process", {}),
        (MODELS | THEIRS, "process", {}),
        (MODELS, "process", {"execution": {"config": {"multiprocess": {"max_concurrent": 1}}}}),
    ],
    ids=["thread", "others", "mixed", "a process for each step"],
)
def test_no_other_process_starts_one_before_it_needs_it(
    shop: Warehouse, tmp_path: Path, selection: Any, isolation: str, config: Any
) -> None:
    _, told, _ = started(shop, tmp_path, selection, isolation, config)
    assert told
    assert not any(told.values())
