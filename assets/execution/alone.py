"""What a step tells Dagster of audits that were evaluated without their model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dagster as dg

from ...config.errors import ExecutionError
from ..intervals import interval_to_json
from ..ledger.outcome import FAILURES, Outcome, audits_of
from .outputs import outputs_without_result
from .report import fail_with_end, failure_text, outcome_metadata, selected_results
from .shared import SharedExecution


def report_audits(
    context: Any, execution: SharedExecution, fqn: str, step: str
) -> Iterator[dg.AssetCheckResult | dg.Output[Any]]:
    """Yields the results of the checks that a step was asked for without their asset.

    Where they cannot be told, the step succeeds without them: Dagster shows such a check as
    skipped. It shows every check without a result as failed if the run fails, and whether the
    lease could be had says nothing of the data.

    Args:
        context: The step's.
        execution: The run's.
        fqn: What the audits belong to.
        step: The step's key.

    Raises:
        dagster.Failure: A blocking audit failed, or one could not be evaluated.
    """
    selected, name = execution.selection(context), audits_of(fqn)
    if name not in selected.models:
        yield from outputs_without_result(context, ())
        return
    try:
        outcome = execution.outcome(name, selected, step=step, retries=context.retry_number)
    except ExecutionError as error:
        context.log.error(f"The checks have no result from this run. {error}")
        yield from outputs_without_result(context, ())
        return
    results = _results(context, execution, outcome)
    yield from results.values()
    if outcome.status in FAILURES:
        raise dg.Failure(
            failure_text(outcome), metadata=outcome_metadata(outcome), allow_retries=False
        )
    yield from outputs_without_result(context, results)
    if outcome.reason or not outcome.audits:
        context.log.warning(outcome.summary())
    fail_with_end(execution.end_error(name), outcome)


def _results(
    context: Any, execution: SharedExecution, outcome: Outcome
) -> dict[dg.AssetCheckKey, dg.AssetCheckResult]:
    intervals = dg.MetadataValue.json(list(map(interval_to_json, outcome.intervals)))
    results = selected_results(context, execution.index.audited(outcome))
    return {
        check: result._replace(metadata={**result.metadata, "sqlmesh/intervals": intervals})
        for check, result in results.items()
    }
