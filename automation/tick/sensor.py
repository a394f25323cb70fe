"""The sensor makes one tick: at most one run request, and the reasons."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from ...assets.dagster_internals import (
    AutomationTickEvaluationContext,
    BaseAssetGraph,
    SensorExecutionData,
    asset_daemon_cursor_from_instigator_serialized_cursor,
    asset_daemon_cursor_to_instigator_serialized_cursor,
    graph_view,
    with_metadata,
)
from ...assets.definitions.specs import AUTOMATION_TAG, GATEWAY_TAG, location_tags
from ...assets.ledger.run_tags import EXECUTION_TIME_TAG, MODELS_TAG
from ...assets.naming import ENVIRONMENT_CHECK
from ...config.errors import DatabaseLocked
from ...config.settings import AutomationSettings
from ..upkeep.housekeeping import Housekeeping
from ..upkeep.parts import Parts
from ..upkeep.recovery import end_dead_runs
from .metrics import TickMetrics
from .plan import TickPlan
from .planner import Planner

# The evaluator writes two lines for every asset; the tick's log has our own lines.
_QUIET = logging.getLogger(f"{__name__}.evaluator")
_QUIET.setLevel(logging.ERROR)


class SqlmeshAutomationSensor(dg.AutomationConditionSensorDefinition):
    """Evaluates the conditions of one SQLMesh environment and requests one run.

    Dagster's own evaluation in user code is limited to 500 assets and checks, and can put neither
    a skip message nor tags that depend on the tick; this sensor builds the evaluation itself.

    It evaluates what SQLMesh decides on and nothing else. Checks with a condition that users put
    on a model have ticks of their own, those of Dagster's default sensor or of one of theirs: here
    they would wait for a tick at which something of SQLMesh's changes.

    Args:
        settings: The SQLMesh environment.
        planner: Makes each tick's plan.
        gateway: The gateway's name.
    """

    def __init__(self, settings: AutomationSettings, planner: Planner, gateway: str) -> None:
        self._settings, self._planner, self._gateway = settings, planner, gateway
        running, stopped = dg.DefaultSensorStatus.RUNNING, dg.DefaultSensorStatus.STOPPED
        with warnings.catch_warnings():
            # Evaluation in user code is beta in Dagster; a test holds what we need of it.
            warnings.simplefilter("ignore", dg.BetaWarning)
            super().__init__(
                name=f"{settings.id}_automation",
                target=_target(settings, planner),
                default_status=running if settings.enabled else stopped,
                minimum_interval_seconds=settings.interval_seconds,
                description=(
                    f"Requests the models of SQLMesh environment {settings.environment!r} that "
                    "are due, all in one run. Each tick's log says why a model was requested or "
                    "held."
                ),
                use_user_code_server=True,
                emit_backfills=False,
            )

        self._shown: tuple[str | None, int] | None = None
        self._parts = Parts()
        self._housekeeping = Housekeeping(timedelta(days=settings.keep_evaluations_days))

    def with_attributes(self, *, jobs: Any = None, metadata: Any = None) -> SqlmeshAutomationSensor:
        """Returns a copy with other metadata; Dagster's own method would forget the subclass."""
        copy = SqlmeshAutomationSensor(self._settings, self._planner, self._gateway)
        with_metadata(copy, self, metadata)
        return copy

    def evaluate_tick(self, context: dg.SensorEvaluationContext) -> SensorExecutionData:
        """Makes one tick; Dagster's daemon calls it through the code server.

        A locked DuckDB database passes by itself, so the tick is skipped.

        Raises:
            AutomationError: The facts cannot be read; Dagster shows the tick as failed.
        """
        with TickMetrics(self._settings) as measured:
            return self._tick(context, measured)

    def _tick(
        self, context: dg.SensorEvaluationContext, measured: TickMetrics
    ) -> SensorExecutionData:
        instance = context.instance
        for line in self._parts.run("ending dead runs", lambda: end_dead_runs(instance)):
            context.log.warning(line)
        for line in self._parts.run("purging old evaluations", self._purge(instance)):
            context.log.warning(line)
        assert context.repository_def is not None
        self._planner.learn(context.repository_def.asset_graph)
        try:
            plan = self._planner.plan(context.instance, datetime.now(UTC))
        except DatabaseLocked as error:
            context.log.info(str(error))
            return _result(context, skip_message=str(error))
        measured.planned(plan)
        for line in plan.lines():
            context.log.info(line)
        for decision in plan.failed:
            context.log.error(f"{decision.name} {decision.reason}")
        for line in plan.warnings:
            context.log.warning(line)
        planner = self._planner
        for line in self._parts.run("recovery of dead runs", lambda: planner.recover(instance)):
            context.log.warning(line)
        for line in self._parts.run(
            "reporting evaluations outside Dagster", lambda: planner.report_outside(instance, plan)
        ):
            context.log.info(line)
        for line in self._parts.run(
            "reporting drift", lambda: planner.report_drift(instance, plan)
        ):
            context.log.warning(line)
        # Last, so that it is what a person sees of a long log.
        return self.request(context, plan, say=context.log.info)

    def _purge(self, instance: dg.DagsterInstance) -> Callable[[], Iterable[str]]:
        def purge() -> Iterable[str]:
            self._housekeeping.tidy(instance, datetime.now(UTC))
            return ()

        return purge

    def request(
        self,
        context: dg.SensorEvaluationContext,
        plan: TickPlan,
        *,
        simulated: bool = False,
        say: Callable[[str], None] = lambda line: None,
    ) -> SensorExecutionData:
        """Evaluates the conditions on a plan.

        Args:
            context: The sensor's context, with instance and repository.
            plan: What the tick decides.
            simulated: Whether the plan is for another moment than now; the run carries it in a tag.
            say: Is called with the tick's summary.
        """
        if plan.state.unfinished or self._is_shown(context, plan):
            say(plan.summary(0))
            return _result(context, skip_message=plan.skip_message)
        tags = {EXECUTION_TIME_TAG: plan.state.at.isoformat()} if simulated else {}
        return self._evaluate_conditions(context, plan, tags, say)

    def _is_shown(self, context: dg.SensorEvaluationContext, plan: TickPlan) -> bool:
        """Returns whether Dagster shows the plan already, so that nothing has to be evaluated.

        The cursor tells whether Dagster has taken the evaluation in which it was shown.
        """
        if plan.requested or self._planner.composed:
            return False
        return self._shown == (context.cursor, plan.shown)

    def _evaluate_conditions(
        self,
        context: dg.SensorEvaluationContext,
        plan: TickPlan,
        tags: Mapping[str, str],
        say: Callable[[str], None],
    ) -> SensorExecutionData:
        if self._planner.composed and plan.is_limited:
            plan = self._replaced(context, plan, tags)
        evaluation = self._evaluation(context, plan, tags)
        # Every condition is handed the evaluation's one view of the asset graph.
        self._planner.attach(graph_view(evaluation), plan)
        requests, new_cursor, evaluations = evaluation.evaluate()
        if len(requests) > 1:
            raise dg.DagsterInvariantViolationError(
                f"One tick asked for {len(requests)} runs. Assets of a SQLMesh environment must "
                "not be partitioned and must be in one repository."
            )
        assert context.repository_def is not None
        graph = context.repository_def.asset_graph
        requests = [_counted(_without_drift_checks(graph, request)) for request in requests]
        keys = {key for request in requests for key in request.asset_selection or ()}
        withheld = list(plan.withheld(keys))
        for line in withheld:
            context.log.info(line)
        say(plan.summary(len(plan.requested) - len(withheld)))
        cursor_text = asset_daemon_cursor_to_instigator_serialized_cursor(new_cursor)
        self._shown = (cursor_text, plan.shown)
        return _result(
            context,
            run_requests=requests,
            skip_message=None if requests else plan.skip_message,
            cursor=cursor_text,
            evaluations=evaluations,
        )

    def _replaced(
        self, context: dg.SensorEvaluationContext, plan: TickPlan, tags: Mapping[str, str]
    ) -> TickPlan:
        """Returns a plan in which what users' conditions hold takes no place from others.

        Their conditions are asked with nothing limited, as only an evaluation can tell.
        """
        unlimited = self._planner.unlimited(plan)
        evaluation = self._evaluation(context, unlimited, tags)
        self._planner.attach(graph_view(evaluation), unlimited)
        requests, _, _ = evaluation.evaluate()
        requested = {key for request in requests for key in request.asset_selection or ()}
        wanted = {unlimited.keys[each.model] for each in unlimited.requested if each.is_evaluated}
        replaced = self._planner.without(unlimited, wanted - requested)
        if replaced is unlimited:
            return plan
        for line in replaced.lines():
            context.log.info(line)
        return replaced

    def _evaluation(
        self, context: dg.SensorEvaluationContext, plan: TickPlan, tags: Mapping[str, str]
    ) -> AutomationTickEvaluationContext:
        """Returns Dagster's evaluation of the conditions; ``tags`` are added to the run's."""
        assert context.repository_def is not None
        graph = context.repository_def.asset_graph
        cursor = asset_daemon_cursor_from_instigator_serialized_cursor(context.cursor, graph)
        return AutomationTickEvaluationContext(
            evaluation_id=cursor.evaluation_id,
            instance=context.instance,
            asset_graph=graph,
            cursor=cursor,
            materialize_run_tags={
                **location_tags(self._settings),
                GATEWAY_TAG: self._gateway,
                **dg.DagsterRun.tags_for_sensor(self),
                **self._planner.priority_tag(plan),
                **tags,
            },
            observe_run_tags={},
            auto_observe_asset_keys=set(),
            asset_selection=self.asset_selection,
            emit_backfills=False,
            evaluation_time=plan.state.at,
            logger=_QUIET,
        )


def _target(settings: AutomationSettings, planner: Planner) -> dg.AssetSelection:
    """Returns an environment's assets, and those checks whose condition is its own."""
    assets = dg.AssetSelection.tag(AUTOMATION_TAG, settings.id).without_checks()
    return assets | dg.AssetSelection.checks(*planner.checks)


def _counted(request: dg.RunRequest) -> dg.RunRequest:
    """Returns a request tagged with its number of models, which the conditions decide."""
    count = len(request.asset_selection or ())
    return request._replace(tags={**request.tags, MODELS_TAG: str(count)})


def _without_drift_checks(graph: BaseAssetGraph[Any], request: dg.RunRequest) -> dg.RunRequest:
    """Returns the request with its checks named; unnamed, all checks of its assets would run."""
    keys = request.asset_check_keys
    if keys is None:
        keys = list(graph.get_check_keys_for_assets(set(request.asset_selection or ())))
    return request.with_replaced_attrs(
        asset_check_keys=[key for key in keys if key.name != ENVIRONMENT_CHECK]
    )


def _result(
    context: dg.SensorEvaluationContext,
    *,
    run_requests: Any = (),
    skip_message: str | None = None,
    cursor: str | None = None,
    evaluations: Any = (),
) -> SensorExecutionData:
    requests: list[dg.RunRequest] = list(run_requests)
    captured = context.has_captured_logs()  # type: ignore[no-untyped-call]
    log_key = context.log_key if captured else None
    return SensorExecutionData(
        run_requests=requests,
        skip_message=skip_message,
        cursor=cursor or context.cursor,
        dagster_run_reactions=[],
        log_key=log_key,
        dynamic_partitions_requests=[],
        asset_events=[],
        automation_condition_evaluations=list(evaluations),
    )
