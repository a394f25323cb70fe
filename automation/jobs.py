"""Jobs that people launch: a restatement, and a preview of the next plan."""

# Without postponed annotations: Dagster takes an op's Config from the annotation itself.

from typing import Any

import dagster as dg
from pydantic import Field

from ..assets.definitions.specs import ENVIRONMENT_TAG
from ..assets.evaluation.contract import Task
from ..assets.evaluation.plans import (
    PlannedModel,
    Restatement,
    markdown,
    spoken_ranges,
)
from ..assets.worker.places import Places
from ..config.settings import AutomationSettings


class RestateConfig(dg.Config):
    """Selects the models and intervals that are evaluated again.

    Launched as it is, it evaluates nothing, since no models are named.
    """

    models: list[str] = Field(
        default=[],
        description=(
            "Models, as `sqlmesh plan --restate-model` takes them: names, patterns such as "
            "`sales.*`, or `tag:finance`; not `git:`. What reads them is restated too. None are "
            "restated unless some are named."
        ),
    )
    start: str = Field(
        default="1 day ago",
        description="Start of the data to evaluate again, such as `2026-11-01` or `3 days ago`.",
    )
    end: str | None = Field(
        default=None, description="End of the data, such as `2026-11-03`; UTC. Now where not given."
    )
    dry_run: bool = Field(
        default=True,
        description="Only tell which models and intervals would be evaluated again.",
    )


def restate_job(settings: AutomationSettings, places: Places) -> dg.JobDefinition:
    """Returns the job ``sqlmesh_<environment>_restate``.

    The job waits for runs that evaluate the same models. The next tick reports what it evaluated,
    once, like every evaluation outside of a model's own step.

    Args:
        settings: The settings of the SQLMesh environment.
        places: Makes the place where SQLMesh executes.
    """
    name = f"{settings.id}_restate"

    @dg.op(name=f"{name}_models")
    def restate_models(context, config: RestateConfig):  # type: ignore[no-untyped-def]
        _restate(settings, places, context, config)

    @dg.job(
        name=name,
        description=(
            "Evaluates intervals of models again, and of what reads them; at first only tells "
            "which. The project's files play no part: what is deployed is evaluated."
        ),
        tags={f"{ENVIRONMENT_TAG}_restate": settings.environment},
        executor_def=dg.in_process_executor,
    )
    def job() -> None:
        restate_models()

    return job


def _restate(
    settings: AutomationSettings, places: Places, context: Any, config: RestateConfig
) -> None:
    if not config.models:
        _without_models(context, config)
        return
    restatement = Restatement(config.models, config.start, config.end, config.dry_run)
    models = _planned(places, Task.RESTATE, settings, restatement, context=context)
    _report(context, models)
    if config.dry_run:
        context.log.info("Nothing was evaluated: launch it with dry_run: false to restate them")
    else:
        context.log.info("Done. The next tick reports these models as materialized")


def _without_models(context: Any, config: RestateConfig) -> None:
    """Says that nothing is restated where nobody has named a model.

    Raises:
        dagster.Failure: It was not to tell only; nobody shall take that for a restatement.
    """
    nothing = "No models are named, so nothing would be evaluated again"
    if not config.dry_run:
        raise dg.Failure(f"{nothing}. Name some in `models`, such as [sales.orders]")
    context.log.info(
        f"{nothing}. Name some in the launchpad, such as models: [sales.orders], and launch it: "
        "with dry_run: true it tells which models and intervals that takes, with dry_run: false "
        "it evaluates them"
    )
    context.add_output_metadata({"models": 0, "report": dg.MetadataValue.md(f"{nothing}.")})


def plan_preview_job(settings: AutomationSettings, places: Places) -> dg.JobDefinition:
    """Returns the job ``sqlmesh_<environment>_plan_preview``, which applies nothing.

    Args:
        settings: The settings of the SQLMesh environment.
        places: Makes the place where SQLMesh executes.
    """
    name = f"{settings.id}_plan_preview"

    @dg.op(name=f"{name}_report")
    def report(context):  # type: ignore[no-untyped-def]
        models = _planned(places, Task.PREVIEW, settings, context=context)
        _report(context, models)
        if not models:
            context.log.info("The environment has what the project's files say: nothing to plan")
        else:
            context.log.info(
                "To apply it: " + settings.sqlmesh_command(f"plan {settings.environment}")
            )

    @dg.job(
        name=name,
        description="Tells what a plan of the project's files would change, and applies nothing.",
        tags={f"{ENVIRONMENT_TAG}_plan_preview": settings.environment},
        executor_def=dg.in_process_executor,
    )
    def job() -> None:
        report()

    return job


def _planned(places: Places, task: Task, *arguments: Any, context: Any) -> list[PlannedModel]:
    place = places()
    try:
        models: list[PlannedModel] = place.call(
            task, *arguments, context.run_id, side=_OpSide(context)
        )
    finally:
        place.close()
    return models


class _OpSide:
    """Dagster's side of a job, as SQLMesh's side tells it."""

    def __init__(self, context: Any) -> None:
        self._log = context.log

    def say(self, message: str) -> None:
        self._log.info(message)


def _report(context: Any, models: list[PlannedModel]) -> None:
    for model in models:
        context.log.info(f"{model.name}: {model.change}; {spoken_ranges(model.intervals)}")
    context.add_output_metadata(
        {"models": len(models), "report": dg.MetadataValue.md(markdown(models))}
    )
