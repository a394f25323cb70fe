"""A project made with ``dg``, from nothing to its first automated run in four commands."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest
import yaml
from support.deployment import PATIENCE_SECONDS, _free_port
from support.executors import dagster_home

pytestmark = pytest.mark.slow
pytest.importorskip("dagster_dg_cli", reason="dg is not installed")

TYPE = "dagster_sqlmesh_automation.SQLMeshAutomationComponent"
BIN = Path(sys.executable).parent


@dataclass
class Shell:
    """Where commands are typed.

    Attributes:
        folder: The working directory; the Dagster project once there is one.
        home: ``DAGSTER_HOME``.
    """

    folder: Path
    home: Path

    @property
    def environment(self) -> dict[str, str]:
        """As in the project's own environment, in which it is installed."""
        paths = [str(self.folder / "src"), os.environ.get("PYTHONPATH", "")]
        return {
            **os.environ,
            "PATH": os.pathsep.join([str(BIN), os.environ["PATH"]]),
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "DAGSTER_HOME": str(self.home),
        }

    def __call__(self, command: str) -> str:
        """Runs a command and gives back what it says."""
        done = subprocess.run(
            command.split(),
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path, dagster_home(tmp_path / "home"))


@pytest.fixture
def project(shell: Shell) -> Shell:
    """A Dagster project with a scaffolded component and its SQLMesh project."""
    shell("create-dagster project shop --no-uv-sync")
    shell.folder /= "shop"
    shell(f"dg scaffold defs {TYPE} models --init true")
    return shell


def test_dg_knows_the_component_and_takes_what_it_has_made(project: Shell) -> None:
    listed = json.loads(project("dg list components --json"))
    assert TYPE in {each["key"] for each in listed["items"]}
    file = project.folder / "src" / "shop" / "defs" / "models" / "defs.yaml"
    assert yaml.safe_load(file.read_text()) == {
        "type": TYPE,
        "attributes": {"project": "{{ context.project_root }}/sqlmesh", "enabled": True},
    }
    project("dg check yaml")
    project("dg check defs")
    listed = json.loads(project("dg list defs --json"))
    assert {asset["asset_key"] for asset in listed["assets"]} == {
        "shop/items",
        "shop/sales",
        "shop/revenue",
    }
    assert {sensor["name"] for sensor in listed["sensors"]} == {"sqlmesh_prod_automation"}


def test_dg_takes_several_projects_with_one_state(project: Shell) -> None:
    for name in ("sales", "mart"):
        (project.folder / name).mkdir()
        (project.folder / name / "config.yaml").write_text(f"project: {name}\n")
    project(f"dg scaffold defs {TYPE} both --project-path sales --project-path mart")
    file = project.folder / "src" / "shop" / "defs" / "both" / "defs.yaml"
    assert yaml.safe_load(file.read_text())["attributes"]["project"] == [
        "{{ context.project_root }}/sales",
        "{{ context.project_root }}/mart",
    ]
    project("dg check yaml")


def test_dg_names_the_line_of_an_attribute_that_does_not_exist(project: Shell) -> None:
    file = project.folder / "src" / "shop" / "defs" / "models" / "defs.yaml"
    file.write_text(file.read_text() + "  intervall_seconds: 5\n")
    with pytest.raises(AssertionError, match=r"(?s)defs\.yaml:6.*intervall_seconds"):
        project("dg check yaml")


def test_four_commands_lead_to_the_first_automated_run(shell: Shell) -> None:
    """The plan makes empty tables, so that all is due at the first tick."""
    shell("create-dagster project shop --no-uv-sync")
    shell.folder /= "shop"
    shell(f"dg scaffold defs {TYPE} models --init true")
    shell("sqlmesh -p sqlmesh plan --skip-backfill --auto-apply --no-prompts")
    log = shell.home / "dg_dev.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            ["dg", "dev", "--port", str(_free_port())],
            cwd=shell.folder,
            env=shell.environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        run = _first_run(shell.home, process, log)
    finally:
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    assert run.status is dg.DagsterRunStatus.SUCCESS, log.read_text()[-3000:]
    assert run.tags["dagster/sensor_name"] == "sqlmesh_prod_automation"
    assert {key.to_user_string() for key in run.asset_selection or ()} == {
        "shop/items",
        "shop/sales",
        "shop/revenue",
    }
    with dg.DagsterInstance.from_config(str(shell.home)) as instance:
        checks = instance.get_records_for_run(
            run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION
        ).records
        assert len(checks) == 5  # two audits, and of each model whether it has drifted


def _first_run(home: Path, process: subprocess.Popen[bytes], log: Path) -> dg.DagsterRun:
    deadline = time.monotonic() + PATIENCE_SECONDS
    with dg.DagsterInstance.from_config(str(home)) as instance:
        while time.monotonic() < deadline:
            assert process.poll() is None, log.read_text()[-3000:]
            if (runs := instance.get_runs()) and runs[-1].is_finished:
                return runs[-1]
            time.sleep(0.3)
    raise AssertionError(f"No run has ended:\n{log.read_text()[-3000:]}")
