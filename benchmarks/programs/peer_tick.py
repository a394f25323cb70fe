"""Ticks of dg-sqlmesh's schedule: idle, and firing."""

import os
from datetime import datetime

import dagster as dg
from dg_sqlmesh import sqlmesh_definitions_factory
from repeated import say, seconds_of

PLANNED_AT = datetime.fromisoformat(os.environ["PLANNED_AT"])
AT = datetime.fromisoformat(os.environ["AT"])
ROUNDS = 3

if __name__ == "__main__":
    defs = sqlmesh_definitions_factory(
        project_dir=os.environ["PROJECT"],
        gateway="main",
        environment="prod",
        enable_schedule=True,
    )
    repository = defs.get_repository_def()
    (schedule,) = repository.schedule_defs
    results: list[object] = []

    def tick(at: datetime) -> None:
        with dg.DagsterInstance.get() as instance:
            context = dg.build_schedule_context(
                instance=instance, scheduled_execution_time=at, repository_def=repository
            )
            with context:
                results.append(schedule.evaluate_tick(context))

    first = seconds_of(lambda: tick(PLANNED_AT), 1)
    idle = seconds_of(lambda: tick(PLANNED_AT), ROUNDS)
    idle_requests = len(results[-1].run_requests or ())
    firing = seconds_of(lambda: tick(AT), ROUNDS)
    say(
        first=first,
        idle=idle,
        firing=firing,
        idle_requests=idle_requests,
        requests=len(results[-1].run_requests or ()),
        skip=str(getattr(results[-1], "skip_message", None)),
    )
