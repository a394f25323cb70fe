"""A code location whose job runs under any executor, and a program that runs it once.

Told by ``LAUNCH_…`` variables, because each step's process loads it anew.
"""

import os
import time
from pathlib import Path

import dagster as dg

from dagster_sqlmesh_automation import SQLMeshTranslator, build_definitions
from dagster_sqlmesh_automation.assets.naming import ENVIRONMENT_CHECK as CHECK
from support.executors import EXECUTORS, LAUNCH_TAG

JOB = "launched"
at = os.environ["LAUNCH_AT"]
retries = int(os.environ["LAUNCH_RETRIES"])


class Translator(SQLMeshTranslator):
    def get_retry_policy(self, model):
        return dg.RetryPolicy(max_retries=retries, delay=3) if retries else None


ours = build_definitions(translator=Translator())
# As a tick requests them: without what compares definitions and environment.
launched_selection = dg.AssetSelection.from_string(
    os.environ["LAUNCH_SELECT"]
) - dg.AssetSelection.checks(
    *(key for key in ours.resolve_asset_graph().asset_check_keys if key.name == CHECK)
)
defs = dg.Definitions.merge(
    ours,
    dg.Definitions(
        jobs=[
            dg.define_asset_job(
                JOB,
                selection=launched_selection,
                executor_def=EXECUTORS[os.environ["LAUNCH_EXECUTOR"]],
            )
        ]
    ),
)


def launched() -> dg.JobDefinition:
    return defs.resolve_job_def(JOB)


if __name__ == "__main__":
    parent = os.environ["LAUNCH_AGAIN"]
    if barrier := os.environ["LAUNCH_BARRIER"]:
        Path(barrier, os.environ["LAUNCH_ID"]).touch()
        while not Path(barrier, "open").exists():
            time.sleep(0.01)
    with dg.DagsterInstance.get() as instance:
        dg.execute_job(
            dg.reconstructable(launched),
            instance,
            raise_on_error=False,
            tags={
                LAUNCH_TAG: os.environ["LAUNCH_ID"],
                "sqlmesh/environment": "prod",
                **({"sqlmesh/execution_time": at} if at else {}),
            },
            reexecution_options=dg.ReexecutionOptions.from_failure(parent, instance)
            if parent
            else None,
        )
