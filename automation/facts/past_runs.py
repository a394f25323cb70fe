"""The last runs of one model, for people to read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import dagster as dg

from ...assets.definitions.specs import AssetIndex
from ...assets.ledger.ledger import read_history
from ...assets.ledger.outcome import Outcome, audits_of
from .coverage import records_of
from .moments import moment_of

_ENDED = {
    dg.DagsterRunStatus.SUCCESS: "not evaluated",
    dg.DagsterRunStatus.FAILURE: "not evaluated: the run failed",
    dg.DagsterRunStatus.CANCELED: "cancelled",
}


@dataclass(frozen=True, slots=True)
class PastRun:
    """A run that was to evaluate a model.

    Attributes:
        at: The moment for which the run was done, aware.
        outcome: What became of the model, where the run's ledger tells.
        text: The outcome in words, or what else is known of the run.
    """

    run_id: str
    at: datetime
    outcome: Outcome | None
    text: str


def past_runs(
    index: AssetIndex, instance: dg.DagsterInstance, model: str, limit: int
) -> list[PastRun]:
    """The last runs that were to evaluate a model or standalone audit, newest first."""
    run_ids = _run_ids(index, instance, model, limit)
    records = records_of(instance, set(run_ids))
    runs = []
    for run_id in dict.fromkeys(run_ids):
        if record := records.get(run_id):
            outcomes = read_history(instance, run_id, index.scope).outcomes
            outcome = outcomes.get(model)
            status = record.dagster_run.status
            text = _ENDED.get(status, "in progress")
            if outcome:
                text = outcome.summary().removeprefix(f"{outcome.name} ")
            elif alone := outcomes.get(audits_of(model)):
                text = alone.summary()
            runs.append(PastRun(run_id, moment_of(record), outcome, text))
    return runs


def _run_ids(
    index: AssetIndex, instance: dg.DagsterInstance, model: str, limit: int
) -> Sequence[str]:
    """Ids of the last runs of a model or standalone audit, newest first, perhaps repeated.

    Of a storage that keeps no history of them (Dagster+'s), the last one alone.
    """
    storage = instance.event_log_storage
    if checks := index.checks.get(model):
        try:
            executions = storage.get_asset_check_execution_history(checks[0], limit)
        except NotImplementedError:
            last = storage.get_latest_asset_check_execution_by_key([checks[0]]).get(checks[0])
            executions = [last] if last is not None else []
        return [execution.run_id for execution in executions]
    if model not in index.keys:
        return []  # a standalone audit that reads nothing of this project
    key = index.keys[model]
    try:
        return [r.run_id for r in instance.fetch_planned_materializations(key, limit).records]
    except NotImplementedError:
        ids = (record.asset_entry.last_run_id for record in instance.get_asset_records([key]))
        return [run_id for run_id in ids if run_id]
