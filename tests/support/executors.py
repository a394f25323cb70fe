"""Dagster's executors, and runs of a project's whole graph under each of them.

``subprocess`` isolates steps as ``k8s_job_executor`` and ``docker_executor`` do: each step is
``dagster api execute_step`` in a process of its own, and shares nothing with the others but
Dagster's storage and SQLMesh's state.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.events import DagsterEvent, EngineEventData
from dagster._core.execution.retries import RetryMode
from dagster._core.executor.step_delegating import (
    CheckStepHealthResult,
    StepDelegatingExecutor,
    StepHandler,
    StepHandlerContext,
)

from dagster_sqlmesh_automation.assets.ledger.ledger import read_history
from dagster_sqlmesh_automation.config.settings import PREFIX

from . import counting
from .ticks import Run

PATIENCE_SECONDS = 180
"""After this long an event that a test waits for is not going to happen."""

LAUNCH_TAG = "test/launch"

_TESTS = Path(__file__).parents[1]
_LOCATION = Path(__file__).with_name("location.py")


class _Subprocesses(StepHandler):
    def __init__(self) -> None:
        self._steps: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def name(self) -> str:
        return "subprocesses"

    def launch_step(self, step_handler_context: StepHandlerContext) -> Iterator[DagsterEvent]:
        arguments = step_handler_context.execute_step_args
        (step,) = arguments.step_keys_to_execute or ()
        command = [sys.executable, "-m", *arguments.get_command_args()]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        self._steps[step] = process
        # As the executors of Kubernetes and Docker do.
        yield DagsterEvent.step_worker_starting(
            step_handler_context.get_step_context(step),
            f"Launching step in process {process.pid}",
            metadata={},
        )

    def check_step_health(self, step_handler_context: StepHandlerContext) -> CheckStepHealthResult:
        (step,) = step_handler_context.execute_step_args.step_keys_to_execute or ()
        code = self._steps[step].poll()
        if code:
            return CheckStepHealthResult.unhealthy(f"step {step} exited with {code}")
        return CheckStepHealthResult.healthy()

    def terminate_step(self, step_handler_context: StepHandlerContext) -> Iterator[DagsterEvent]:
        (step,) = step_handler_context.execute_step_args.step_keys_to_execute or ()
        yield DagsterEvent.engine_event(
            step_handler_context.get_step_context(step), "Interrupting step", EngineEventData()
        )
        if step in self._steps:
            self._steps[step].send_signal(signal.SIGINT)


@dg.executor(name="subprocess", requirements=dg.multiple_process_executor_requirements())
def subprocess_executor(context: dg.InitExecutorContext) -> StepDelegatingExecutor:
    """Each step a process that nobody of the run is the parent of."""
    return StepDelegatingExecutor(
        _Subprocesses(),
        retries=RetryMode.ENABLED,
        sleep_seconds=0.2,
        check_step_health_interval_seconds=1,
        max_concurrent=3,
    )


# A new interpreter for each step takes seconds; the others take them.
_FORKED = {"forkserver": {"preload_modules": ["dagster_sqlmesh_automation.automation.definitions"]}}

EXECUTORS: Mapping[str, Any] = {
    "in_process": dg.in_process_executor,
    "multiprocess_1": dg.multiprocess_executor.configured({"max_concurrent": 1}),
    "multiprocess_2": dg.multiprocess_executor.configured(
        {"max_concurrent": 2, "start_method": _FORKED}
    ),
    "multiprocess_4": dg.multiprocess_executor.configured({"max_concurrent": 4}),
    "subprocess": subprocess_executor,
}


@dataclass
class Launch:
    """A run of a project in a process group of its own; a context manager.

    Attributes:
        project: The SQLMesh project.
        home: Its ``DAGSTER_HOME``, with a ``dagster.yaml``.
        executor: One of :data:`EXECUTORS`.
        at: The moment for which it is done; the wall clock's when not given.
        select: What it runs, as Dagster's asset selection.
        barrier: Folder whose file ``open`` it waits for before it begins its run.
        again: Id of a run that it executes again, from its failure.
        retries: How often a step that fails is tried again.
        variables: Further environment variables.
    """

    project: Path
    home: Path
    executor: str = "multiprocess_2"
    at: datetime | None = None
    select: str = "*"
    barrier: Path | None = None
    again: str | None = None
    retries: int = 0
    variables: Mapping[str, str] = field(default_factory=dict)

    def __enter__(self) -> Launch:
        self.instance = dg.DagsterInstance.from_config(str(self.home))
        self._launch_id = uuid.uuid4().hex
        self.output = self.home / f"output-{self._launch_id}.log"
        arguments = {
            "ID": self._launch_id,
            "BARRIER": str(self.barrier or ""),
            "RETRIES": str(self.retries),
            "EXECUTOR": self.executor,
            "SELECT": self.select,
            "AGAIN": self.again or "",
            "AT": self.at.isoformat() if self.at is not None else "",
        }
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, str(_LOCATION)],
                env={
                    **{
                        name: value
                        for name, value in os.environ.items()
                        if not name.startswith(PREFIX) or name == f"{PREFIX}ISOLATION"
                    },
                    **{f"LAUNCH_{name}": value for name, value in arguments.items()},
                    "DAGSTER_HOME": str(self.home),
                    f"{PREFIX}PROJECT": str(self.project),
                    counting.LOG_VARIABLE: str(executions_log(self.home)),
                    "PYTHONPATH": os.pathsep.join(
                        filter(
                            None, [str(counting.HOOK), str(_TESTS), os.environ.get("PYTHONPATH")]
                        )
                    ),
                    **self.variables,
                },
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        if self.barrier is None:
            assert self.run_id
        return self

    def __exit__(self, *error: object) -> None:
        self.kill_all()
        self.instance.dispose()

    @cached_property
    def run_id(self) -> str:
        """Its run's id; waits until there is a run."""
        mine = dg.RunsFilter(tags={LAUNCH_TAG: self._launch_id})
        while not (runs := self.instance.get_runs(mine)):
            assert self.process.poll() is None, self.output.read_text()
            time.sleep(0.05)
        return runs[0].run_id

    @property
    def run(self) -> Run:
        """Its run, as the instance on disk has it now."""
        run = self.instance.get_run_by_id(self.run_id)
        assert run is not None
        outcomes = read_history(self.instance, self.run_id, "sqlmesh_prod").outcomes
        return Run(self.instance, self.run_id, run.is_success, outcomes)

    @property
    def status(self) -> dg.DagsterRunStatus:
        """Its run's status."""
        run = self.instance.get_run_by_id(self.run_id)
        assert run is not None
        return run.status

    def executing(self) -> int | None:
        """Process id of the last one that began to execute SQLMesh."""
        for event in reversed(self.run.events(dg.DagsterEventType.ENGINE_EVENT)):
            if started := event.event_specific_data.metadata.get("sqlmesh/execution_started"):
                return int(started.value.split(":")[1])
        return None

    def finish(self) -> Run:
        """Waits for its end."""
        try:
            self.process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"It did not end:\n{self.told()}") from None
        return self.run

    def wait_for(self, condition: Callable[[], Any]) -> None:
        """Returns once something has come about, and fails where it no longer can."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            ended = self.process.poll() is not None
            if (ended and not condition()) or time.monotonic() > deadline:
                raise AssertionError(f"It never came about:\n{self.told()}")
            time.sleep(0.05)

    def terminate(self) -> None:
        """What a run launcher does when a person terminates the run in the UI."""
        run = self.instance.get_run_by_id(self.run_id)
        assert run is not None
        self.instance.report_run_canceling(run)
        self.process.send_signal(signal.SIGINT)

    def kill_all(self) -> None:
        """Kills every process of it, as a machine that fails."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    @property
    def leftover_processes(self) -> bool:
        """Whether anything that it started is still there, once it has ended itself."""
        self.process.wait(PATIENCE_SECONDS)
        deadline = time.monotonic() + 10  # a killed child has to be reaped first
        while time.monotonic() < deadline:
            try:
                os.killpg(self.process.pid, 0)
            except ProcessLookupError:
                return False
            time.sleep(0.1)
        return True

    def told(self) -> str:
        """What the run and its process said."""
        lines = [entry.message for entry in self.instance.all_logs(self.run_id)]
        return "\n".join(lines[-60:]) + "\n" + self.output.read_text()[-4000:]


def executions_log(home: Path) -> Path:
    """Where SQLMesh executions of runs under a ``DAGSTER_HOME`` are counted."""
    return home / "executions.log"


def executions(home: Path) -> int:
    """How many SQLMesh executions there have been."""
    return counting.count(executions_log(home))


def dagster_home(folder: Path, dagster_yaml: str = "telemetry: {enabled: false}\n") -> Path:
    """A new ``DAGSTER_HOME``; on SQLite where ``dagster.yaml`` does not say otherwise."""
    folder.mkdir(parents=True)
    (folder / "dagster.yaml").write_text(dagster_yaml)
    return folder
