"""One Dagster run of all models of a project, by this package."""

import dagster as dg
from runs import executor, measure

from dagster_sqlmesh_automation import build_definitions
from dagster_sqlmesh_automation.automation.upkeep.drift import CHECK


def followed() -> dg.JobDefinition:
    defs = build_definitions()
    every = defs.resolve_all_asset_specs()
    # As the sensor requests them: without the checks that its own ticks report.
    drift = [dg.AssetCheckKey(spec.key, CHECK) for spec in every]
    selection = dg.AssetSelection.all() - dg.AssetSelection.checks(*drift)
    job = dg.define_asset_job("followed", selection, executor_def=executor())
    merged = dg.Definitions.merge(defs, dg.Definitions(jobs=[job]))
    return merged.resolve_job_def("followed")


if __name__ == "__main__":
    measure(followed)
