"""The floor on Dagster's side: one run of assets that do nothing, in this process.

With `GRAPH` they read each other as the project's models do: Dagster then looks the versions of
each step's inputs up.
"""

import json
import os
import time
from pathlib import Path

import dagster as dg


def empty(name: str, parents: list[str]) -> dg.AssetsDefinition:
    @dg.asset(name=name, deps=parents)
    def step() -> None: ...

    return step


def followed() -> dg.JobDefinition:
    graph = json.loads(Path(os.environ["GRAPH"]).read_text())
    connected = os.environ["CONNECTED"] == "yes"
    assets = [empty(name, parents if connected else []) for name, parents in graph.items()]
    job = dg.define_asset_job("followed", executor_def=dg.in_process_executor)
    return dg.Definitions(assets=assets, jobs=[job]).resolve_job_def("followed")


if __name__ == "__main__":
    with dg.DagsterInstance.get() as instance:
        job = dg.reconstructable(followed)
        started = time.perf_counter()
        dg.execute_job(job, instance, raise_on_error=True)
        print(json.dumps({"seconds": time.perf_counter() - started}))
