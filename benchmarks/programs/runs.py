"""What the programs that run assets have in common; works with the peer's versions as well."""

import importlib
import json
import os
import time

import dagster as dg


def executor() -> dg.ExecutorDefinition:
    if os.environ.get("EXECUTOR") == "multiprocess":
        return dg.multiprocess_executor.configured({"max_concurrent": 2})
    return dg.in_process_executor


def measure(program: str) -> None:
    """Runs a program's job, prints what it took and what Dagster's event log shows of it.

    Args:
        program: Name of the program's module. Dagster asks its function ``followed`` for the job
            more than once, and is to get the same one, as from the module of a code location.
    """
    job = dg.reconstructable(importlib.import_module(program).followed)
    with dg.DagsterInstance.get() as instance:
        started = time.perf_counter()
        result = dg.execute_job(job, instance, raise_on_error=False)
        seconds = time.perf_counter() - started
        record = instance.get_run_record_by_id(result.run_id)
        assert record is not None
        assert record.start_time is not None
        assert record.end_time is not None
        steps, shown = look_at(instance, result.run_id)
    print(
        json.dumps(
            {
                "seconds": seconds,
                "run_seconds": record.end_time - record.start_time,
                "succeeded": result.success,
                "step_seconds": steps,
                "shown": shown,
            }
        )
    )


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
