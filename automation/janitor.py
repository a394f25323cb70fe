"""SQLMesh's janitor as a job of its own.

The janitor drops what expired environments and snapshots leave behind. The shared execution never
runs it, because models that people wait for should not wait for a clean-up.
"""

from __future__ import annotations

from typing import Any

import dagster as dg

from ..assets.definitions.specs import ENVIRONMENT_TAG
from ..assets.lease.waiting import Wait, database_lease
from ..assets.project.opening import duckdb_files, open_context
from ..config.settings import AutomationSettings

_CRON = "0 3 * * *"


def janitor(
    settings: AutomationSettings,
) -> tuple[dg.JobDefinition, dg.ScheduleDefinition]:
    """Returns the job ``sqlmesh_<environment>_janitor`` and its daily schedule, switched off.

    Args:
        settings: The settings of the SQLMesh environment that the job is named after. SQLMesh's
            janitor cleans up after all environments of the project.
    """
    name = f"{settings.id}_janitor"

    @dg.op(name=f"{name}_clean_up")
    def clean_up(context):  # type: ignore[no-untyped-def]
        _clean_up(settings, context)

    @dg.job(
        name=name,
        description="Drops what expired SQLMesh environments and snapshots leave behind.",
        tags={f"{ENVIRONMENT_TAG}_janitor": settings.environment},
        executor_def=dg.in_process_executor,
    )
    def job() -> None:
        clean_up()

    schedule = dg.ScheduleDefinition(
        name=name,
        job=job,
        cron_schedule=_CRON,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.STOPPED,
    )
    return job, schedule


def _clean_up(settings: AutomationSettings, context: Any) -> None:
    from ..assets.project.environment import read_environment

    wait = Wait(settings.lease_timeout_seconds, context.log.info, place=settings.place)
    with (
        open_context(settings, load=False) as sqlmesh,
        database_lease(duckdb_files(sqlmesh), wait, f"the janitor in run {context.run_id}"),
    ):
        try:
            read_environment(sqlmesh, settings)
            cleaned = sqlmesh.run_janitor(ignore_ttl=False)
        finally:
            sqlmesh.close()
    if not cleaned:
        raise dg.Failure("SQLMesh's janitor did not come to its end; see the log above")
    context.log.info("SQLMesh's janitor has cleaned up")
