"""What runs the steps of a run: one process where SQLMesh's are among themselves, else Dagster's.

An executor is the whole code location's, so it must not change how the user's own assets run.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import dagster as dg

from ..dagster_internals import check_cross_process_constraints

EXECUTION_TAG = "sqlmesh/execution"
"""Tags the ops of an environment with the engine that has the tables."""

_AUTOMATIC, _IN_PROCESS, _MULTIPROCESS = "automatic", "in_process", "multiprocess"

_ONE_PROCESS = "duckdb"
"""The engine whose database one process at a time can open."""


def _requirements(config: Mapping[str, Any]) -> Any:
    """Returns what a run needs before its steps are known."""
    return dg.multiple_process_executor_requirements() if _MULTIPROCESS in config else []


@dg.executor(
    name="sqlmesh",
    config_schema=dg.Field(
        dg.Selector(  # type: ignore[no-untyped-call]
            {
                _AUTOMATIC: dg.multiprocess_executor.config_schema.as_field(),
                _MULTIPROCESS: dg.multiprocess_executor.config_schema.as_field(),
                _IN_PROCESS: dg.in_process_executor.config_schema.as_field(),
            }
        ),
        default_value={_AUTOMATIC: {}},
    ),
    requirements=_requirements,
)
def sqlmesh_executor(context: dg.InitExecutorContext) -> dg.Executor:
    """Runs models in one process, and what is not SQLMesh's as Dagster does by default.

    Steps of models wait for one execution, so that a process for each only adds its start. A run
    of models alone, with the checks on them, is in one process. A run without models has Dagster's
    default, a process for each step. So has a run with both, in which the other steps are as they
    would be without the models; but on DuckDB, whose file no second process can open, it is in one
    process as a whole.

    Run config may choose, in the words of Dagster's ``multi_or_in_process_executor``:
    ``execution: {config: {in_process: {}}}`` or ``{multiprocess: {max_concurrent: 4}}``.
    """
    chosen: Mapping[str, Any] = context.executor_config
    ((mode, config),) = chosen.items()
    if mode != _AUTOMATIC:
        return _dagsters(context, mode, config)
    shared = {key: config[key] for key in ("retries", "step_dependency_config") if key in config}
    return _ByStepsExecutor(
        in_process=_dagsters(context, _IN_PROCESS, shared),
        multiprocess=_dagsters(context, _MULTIPROCESS, config),
        context=context,
    )


def _dagsters(context: dg.InitExecutorContext, mode: str, config: Any) -> dg.Executor:
    create = dg.multi_or_in_process_executor.executor_creation_fn
    assert create is not None
    return create(_as(context, dg.multi_or_in_process_executor, {mode: config}))


def _as(
    context: dg.InitExecutorContext, executor: dg.ExecutorDefinition, config: Mapping[str, Any]
) -> dg.InitExecutorContext:
    return dg.InitExecutorContext(
        job=context.job, executor_def=executor, executor_config=config, instance=context.instance
    )


class _ByStepsExecutor(dg.Executor):
    """Runs a run in one process or in many, by the steps that it is to execute."""

    def __init__(
        self,
        *,
        in_process: dg.Executor,
        multiprocess: dg.Executor,
        context: dg.InitExecutorContext,
    ) -> None:
        self._in_process, self._multiprocess = in_process, multiprocess
        self._context = context

    @property
    def retries(self) -> Any:
        """Whether steps are retried, as the run config says."""
        return self._multiprocess.retries

    @property
    def step_dependency_config(self) -> Any:
        """What a step waits for, as the run config says."""
        return self._multiprocess.step_dependency_config

    def execute(self, plan_context: Any, execution_plan: Any) -> Iterator[dg.DagsterEvent]:
        """Yields the events of a run's steps.

        A run that is executed again from its failure has only the steps that are left.
        """
        steps = [execution_plan.get_step(key) for key in execution_plan.step_handles_to_execute]
        if belongs_in_one_process(steps):
            yield from self._in_process.execute(plan_context, execution_plan)
            return
        # Dagster has asked it of this executor already, when the steps were not known.
        config: Mapping[str, Any] = {_MULTIPROCESS: {}}
        check_cross_process_constraints(_as(self._context, dg.multi_or_in_process_executor, config))
        yield from self._multiprocess.execute(plan_context, execution_plan)


def belongs_in_one_process(steps: Collection[Any]) -> bool:
    """Returns whether the steps of a run are best in one process.

    A user's check on a model is no reason for a process for each model: ticks request it, and
    without the models it would not be there.

    Args:
        steps: The steps that the run is to execute.
    """
    engines = {step.tags[EXECUTION_TAG] for step in steps if EXECUTION_TAG in step.tags}
    others = [step for step in steps if EXECUTION_TAG not in step.tags and not _only_checks(step)]
    return bool(engines) and (not others or _ONE_PROCESS in engines)


def _only_checks(step: Any) -> bool:
    outputs = step.step_outputs
    return bool(outputs) and all(output.properties.asset_check_key for output in outputs)
