"""The floor on Dagster's side: one run of assets that do nothing, in this process.

With `GRAPH` they read each other as the project's models do: Dagster then looks the versions of
each step's inputs up.
"""

import json
import os
from functools import cache
from pathlib import Path

import dagster as dg
from runs import executor, measure


def empty(name: str, parents: list[str]) -> dg.AssetsDefinition:
    @dg.asset(name=name, deps=parents)
    def step() -> None: ...

    return step


@cache
def job() -> dg.JobDefinition:
    graph = json.loads(Path(os.environ["GRAPH"]).read_text())
    connected = os.environ["CONNECTED"] == "yes"
    assets = [empty(name, parents if connected else []) for name, parents in graph.items()]
    jobs = [dg.define_asset_job("followed", executor_def=executor())]
    return dg.Definitions(assets=assets, jobs=jobs).resolve_job_def("followed")


def followed() -> dg.JobDefinition:
    return job()


if __name__ == "__main__":
    measure("empty_steps")
