"""One Dagster run of all models of a project, by this package."""

from functools import cache

import dagster as dg
from runs import executor, measure

from dagster_sqlmesh_automation import build_definitions
from dagster_sqlmesh_automation.assets.naming import ENVIRONMENT_CHECK as CHECK


@cache
def job() -> dg.JobDefinition:
    defs = build_definitions()
    every = defs.resolve_all_asset_specs()
    # As the sensor requests them: without the checks that its own ticks report.
    drift = [dg.AssetCheckKey(spec.key, CHECK) for spec in every]
    selection = dg.AssetSelection.all() - dg.AssetSelection.checks(*drift)
    jobs = [dg.define_asset_job("followed", selection, executor_def=executor())]
    merged = dg.Definitions.merge(defs, dg.Definitions(jobs=jobs))
    return merged.resolve_job_def("followed")


def followed() -> dg.JobDefinition:
    return job()


if __name__ == "__main__":
    measure("automation_run")
