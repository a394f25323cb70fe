"""What the programs that run models have in common; works with the peer's versions as well."""

import json
import os
import time
from collections.abc import Callable
from typing import Any

import dagster as dg


def executor() -> dg.ExecutorDefinition:
    if os.environ.get("EXECUTOR") == "multiprocess":
        return dg.multiprocess_executor.configured({"max_concurrent": 2})
    return dg.in_process_executor


def watch_intervals() -> dict[str, float]:
    """When SQLMesh has written a model's interval down, by the model's name; fills as it runs."""
    from sqlmesh.core.scheduler import Scheduler

    finished: dict[str, float] = {}
    original = Scheduler.evaluate

    def evaluate(self: Any, snapshot: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(self, snapshot, *args, **kwargs)
        finished[snapshot.node.name] = time.time()
        return result

    Scheduler.evaluate = evaluate  # type: ignore[method-assign]
    return finished


def measure(job: Callable[[], dg.JobDefinition]) -> None:
    """Runs the job, prints what it took and what Dagster's event log shows of it."""
    with dg.DagsterInstance.get() as instance:
        reconstructable = dg.reconstructable(job)
        finished = watch_intervals() if os.environ.get("WATCH") else {}
        started = time.perf_counter()
        result = dg.execute_job(reconstructable, instance, raise_on_error=False)
        seconds = time.perf_counter() - started
        run_id = result.run_id
        succeeded = result.success
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
    print(
        json.dumps(
            {
                "seconds": seconds,
                "succeeded": succeeded,
                "materialized": len(shown),
                "evaluated": len(finished),
                "step_seconds": steps,
                "visible": [shown[name] - at for name, at in finished.items() if name in shown],
            }
        )
    )
