"""What the programs that run assets have in common; works with the peer's versions as well."""

import importlib
import json
import os
import time

import dagster as dg
from dagster._core.execution.api import create_execution_plan
from dagster._core.snap import snapshot_from_execution_plan
from dagster._grpc.impl import core_execute_run


def executor() -> dg.ExecutorDefinition:
    if os.environ.get("EXECUTOR") == "multiprocess":
        return dg.multiprocess_executor.configured({"max_concurrent": 2})
    return dg.in_process_executor


def measure(program: str) -> None:
    """Asks for a run of a program's job, or executes it and prints what it took and what it shows.

    Two processes, as in a deployment: the daemon asks for the run, and a process that has nothing
    loaded yet, the run's worker, executes it. It has the run's id in `RUN`.

    Args:
        program: Name of the program's module. Dagster asks its function ``followed`` for the job
            more than once, and is to get the same one, as from the module of a code location.
    """
    job = dg.reconstructable(importlib.import_module(program).followed)
    with dg.DagsterInstance.get() as instance:
        if "RUN" not in os.environ:
            print(json.dumps({"run": ask(job.get_definition(), instance)}))
            return
        run = instance.get_run_by_id(os.environ["RUN"])
        assert run is not None
        started = time.perf_counter()
        for _ in core_execute_run(job, run, instance, inject_env_vars=False):
            pass
        seconds = time.perf_counter() - started
        record = instance.get_run_record_by_id(run.run_id)
        assert record is not None
        assert record.start_time is not None
        assert record.end_time is not None
        steps, shown = look_at(instance, run.run_id)
    print(
        json.dumps(
            {
                "seconds": seconds,
                "run_seconds": record.end_time - record.start_time,
                "succeeded": record.dagster_run.is_success,
                "step_seconds": steps,
                "shown": shown,
            }
        )
    )


def ask(job: dg.JobDefinition, instance: dg.DagsterInstance) -> str:
    """Creates a run of all assets and checks of a job, as the daemon does; returns its id."""
    plan = create_execution_plan(job)
    outputs = [
        output.properties for step in plan.step_dict.values() for output in step.step_outputs
    ]
    run = instance.create_run(
        job_name=job.name,
        run_id=None,
        run_config={},
        status=dg.DagsterRunStatus.STARTING,
        tags={},
        root_run_id=None,
        parent_run_id=None,
        step_keys_to_execute=None,
        execution_plan_snapshot=snapshot_from_execution_plan(plan, job.get_job_snapshot_id()),
        job_snapshot=job.get_job_snapshot(),
        parent_job_snapshot=None,
        asset_selection={each.asset_key for each in outputs if each.asset_key},
        asset_check_selection={each.asset_check_key for each in outputs if each.asset_check_key},
        resolved_op_selection=None,
        op_selection=None,
        remote_job_origin=None,
        job_code_origin=None,
        asset_graph=job.asset_layer.asset_graph,
    )
    return run.run_id


def look_at(instance: dg.DagsterInstance, run_id: str) -> tuple[list[float], dict[str, float]]:
    """Returns how long steps in processes of their own took, and when models materialized."""
    records = instance.get_records_for_run(
        run_id,
        of_type={
            dg.DagsterEventType.ASSET_MATERIALIZATION,
            dg.DagsterEventType.STEP_SUCCESS,
            dg.DagsterEventType.STEP_WORKER_STARTING,
        },
    ).records
    began: dict[str, float] = {}
    shown: dict[str, float] = {}
    steps: list[float] = []
    for record in records:
        event = record.event_log_entry.dagster_event
        assert event is not None
        if event.event_type is dg.DagsterEventType.ASSET_MATERIALIZATION:
            shown[".".join(event.asset_key.path[-2:])] = record.timestamp
        elif event.event_type is dg.DagsterEventType.STEP_WORKER_STARTING:
            began[event.step_key] = record.timestamp
        elif event.step_key in began:
            steps.append(record.timestamp - began[event.step_key])
    return steps, shown
