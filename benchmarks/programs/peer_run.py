"""One Dagster run of all models of a project, by dg-sqlmesh."""

import os
from functools import cache

import dagster as dg
from dg_sqlmesh import sqlmesh_definitions_factory
from runs import executor, measure


@cache
def job() -> dg.JobDefinition:
    defs = sqlmesh_definitions_factory(
        project_dir=os.environ["PROJECT"], gateway="main", environment="prod"
    )
    # Its own job, with the executor under test.
    merged = dg.Definitions.merge(defs, dg.Definitions(executor=executor()))
    return merged.resolve_job_def("sqlmesh_job")


def followed() -> dg.JobDefinition:
    return job()


if __name__ == "__main__":
    measure("peer_run")
