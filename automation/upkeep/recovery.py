"""Recovery puts right what runs left behind that died: their status, and what they evaluated."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg

from ...assets.dagster_internals import SqlEventLogStorage
from ...assets.definitions.specs import AssetIndex
from ...assets.execution.report import report_runless
from ...assets.intervals import Interval, Record
from ...assets.ledger.history import History
from ...assets.ledger.ledger import read_history
from ...assets.ledger.outcome import Outcome, OutcomeStatus
from ...assets.ledger.process import lives
from ...assets.ledger.run_tags import process as process_of
from ...config.errors import RunTagInvalid
from ..facts.ends import HOW_ON, FailedEnd, is_made_good
from ..facts.runs import IN_PROGRESS

_LOOK_BACK = timedelta(days=7)
_MOST_RUNS = 100

Recorded = Callable[[str], tuple[str, Record] | None]
"""Returns a model's snapshot and what SQLMesh has recorded of it."""


def end_dead_runs(instance: dg.DagsterInstance) -> Iterator[str]:
    """Marks runs as failed whose process is gone.

    Dagster notices that for the runs that it launches, and not for those of ``sqlmesh-automation
    tick``, which would hold their models for ever.

    Yields:
        A line for each run.
    """
    for run in instance.get_runs(dg.RunsFilter(statuses=list(IN_PROGRESS))):
        try:
            process = process_of(run.tags, run.run_id)
        except RunTagInvalid as error:
            yield f"{error}; here the tag is left out"
            continue
        if process is not None and not lives(process):
            message = f"Process {process} of this run is gone"
            instance.report_run_failed(run, message)
            yield f"run {run.run_id} marked as failed: its process {process} is gone"


class Recovery:
    """Reports what SQLMesh evaluated in runs that ended before a step could report it.

    And which of these runs failed when every model had been evaluated: nothing else would tell,
    as their models are not due any more.

    A process can be killed at any moment: after SQLMesh has recorded an interval and before the
    ledger has the outcome, or after that and before the step's materialization.

    Args:
        index: Tells which asset stands for which model.

    Attributes:
        evaluated: Until when runs that did not succeed have evaluated models without reporting
            it, by ``fqn``. They did so in batches that were done before one failed.
    """

    def __init__(self, index: AssetIndex) -> None:
        self._index = index
        self.evaluated: dict[str, datetime] = {}
        self._looked: datetime | None = None
        self._failed_end: FailedEnd | None = None
        self._told: FailedEnd | None = None

    def report(self, instance: dg.DagsterInstance, recorded: Recorded) -> Iterator[str]:
        """Reports it as runless materializations, and an end that failed in words.

        Args:
            instance: Records the runs.
            recorded: Tells what SQLMesh's state holds now.

        Yields:
            A line for each model, and one for the last run whose end failed.
        """
        now = datetime.now(UTC)
        ended = dg.RunsFilter(
            statuses=[dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED],
            # The periods overlap a little: a run's end is stamped before it can be read.
            updated_after=(self._looked or now - _LOOK_BACK) - timedelta(minutes=1),
        )
        for record in reversed(instance.get_run_records(ended, limit=_MOST_RUNS)):
            yield from self._report_run(instance, record, recorded)
        end, self._failed_end = self._failed_end, None
        if end and end != self._told and not is_made_good(self._index, instance, end):
            self._told = end
            yield f"{end}. {HOW_ON}"
        self._looked = now

    def _report_run(
        self, instance: dg.DagsterInstance, record: dg.RunRecord, recorded: Recorded
    ) -> Iterator[str]:
        run_id = record.dagster_run.run_id
        history = read_history(instance, run_id, self._index.scope)
        self._failed_end = FailedEnd.of(run_id, history) or self._failed_end
        self._note(history, record)
        for entry in history.unusable:
            yield f"run {run_id}: {entry} is left out"
        outcomes = {
            self._index.evaluated[outcome.model]: outcome
            for outcome in _evaluated(history, recorded)
            if outcome.model in self._index.evaluated
        }
        if not outcomes:
            return
        began = record.start_time or record.create_timestamp.timestamp()
        for asset in instance.get_asset_records(list(outcomes)):
            materialization = asset.asset_entry.last_materialization
            # Anything newer is this run's own, or of a run that has built on it.
            if materialization is not None and materialization.timestamp >= began:
                outcomes.pop(asset.asset_entry.asset_key)
        for key, outcome in outcomes.items():
            if not _reported(instance, key, began):
                report_runless(instance, self._index, outcome, run_id)
                yield f"{outcome.name} was evaluated by run {run_id}, whose step could not say so"

    def _note(self, history: History, record: dg.RunRecord) -> None:
        """Notes from a run's ledger until when it has evaluated models that then failed."""
        evaluated = {
            model: outcome.evaluated_at
            for model, outcome in history.outcomes.items()
            if outcome.status is not OutcomeStatus.EXECUTED and outcome.evaluated_at is not None
        }
        ended = datetime.fromtimestamp(record.end_time, tz=UTC) if record.end_time else None
        for model in {model for current in history.rounds for model in current.planned}:
            if ended is not None and model not in history.outcomes:
                evaluated[model] = ended
        for model, until in evaluated.items():
            self.evaluated[model] = max(until, self.evaluated.get(model, until))


def _reported(instance: dg.DagsterInstance, key: dg.AssetKey, began: float) -> bool:
    """Returns whether the log has a materialization since then that the asset does not name.

    Dagster on PostgreSQL stores a materialization and, in a transaction of its own, that it is
    the asset's last. A process may be killed in between; this makes up for the second.
    """
    since = dg.AssetRecordsFilter(asset_key=key, after_timestamp=began)
    records = instance.fetch_materializations(since, limit=1).records
    storage = instance.event_log_storage
    if records and isinstance(storage, SqlEventLogStorage):
        storage.store_asset_event(records[0].event_log_entry, records[0].storage_id)
    return bool(records)


def _evaluated(history: History, recorded: Recorded) -> Iterator[Outcome]:
    """Yields what SQLMesh evaluated in a run that has ended."""
    outcomes = history.outcomes
    yield from (o for o in outcomes.values() if o.status is OutcomeStatus.EXECUTED)
    planned: Mapping[str, Sequence[Interval]] = {}
    for current in history.rounds:
        planned = {**planned, **current.planned}
    for model, batches in planned.items():
        if model in outcomes or (held := recorded(model)) is None:
            continue
        snapshot, record = held
        done = [
            batch
            for batch in batches
            if any(start <= batch[0] and batch[1] <= end for start, end in record.ranges)
        ]
        if done:
            yield Outcome(
                model=model,
                name=model.replace('"', ""),
                status=OutcomeStatus.EXECUTED,
                intervals=tuple(done),
                batches=len(done),
                snapshot=snapshot,
                evaluated_at=datetime.now(UTC),
                recorded=record.with_evaluated(()),
                recovered=True,
            )
