"""Executions that failed after their last model: what ``after_all`` was to do is not done."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import dagster as dg

from ...assets.dagster_internals import FINISHED_STATUSES
from ...assets.definitions.specs import AssetIndex
from ...assets.ledger.history import END_UNKNOWN, History
from ...assets.ledger.ledger import read_history

HOW_ON = (
    "What it evaluated stays so; SQLMesh executes after_all again with the next model that is due, "
    "and a re-execution of the run from failure does at once."
)
"""What becomes of it, for a person."""

_LOOK_BACK = timedelta(days=7)
_MOST_RUNS = 100
_LONGEST_REASON = 1000


@dataclass(frozen=True, slots=True)
class FailedEnd:
    """The end of an execution that failed, after every model had its outcome.

    Attributes:
        run_id: The run.
        reason: Why, in one line.
        is_known: Whether it did; the process that executed may have been killed there.
    """

    run_id: str
    reason: str
    is_known: bool = True

    @classmethod
    def of(cls, run_id: str, history: History) -> FailedEnd | None:
        """Returns how a run's last execution failed at its end, if it did."""
        if (reason := history.failed_end) is None:
            return None
        line = textwrap.shorten(reason, _LONGEST_REASON, placeholder=" …")
        return cls(run_id, line, is_known=reason != END_UNKNOWN)

    def __str__(self) -> str:
        return f"the end of run {self.run_id} failed: {self.reason}"


def is_made_good(index: AssetIndex, instance: dg.DagsterInstance, end: FailedEnd) -> bool:
    """Returns whether a later execution came to its end, which does the same things.

    One that had nothing to evaluate does nothing at its end, unless it repeats the run.
    """
    (failed,) = instance.get_run_records(dg.RunsFilter(run_ids=[end.run_id]))
    later = dg.RunsFilter(created_after=failed.create_timestamp, statuses=list(FINISHED_STATUSES))
    for record in instance.get_run_records(later, limit=_MOST_RUNS):
        run = record.dagster_run
        repeats = run.parent_run_id == end.run_id
        history = read_history(instance, run.run_id, index.scope)
        if any(
            round_.ended and round_.error is None and (round_.planned or repeats)
            for round_ in history.rounds
        ):
            return True
    return False


def last_failed_end(index: AssetIndex, instance: dg.DagsterInstance) -> FailedEnd | None:
    """Returns the last end that failed, unless a later execution has made it good."""
    since = datetime.now(UTC) - _LOOK_BACK
    unsuccessful = dg.RunsFilter(
        statuses=[dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED], updated_after=since
    )
    for record in instance.get_run_records(unsuccessful, limit=_MOST_RUNS):
        run_id = record.dagster_run.run_id
        if end := FailedEnd.of(run_id, read_history(instance, run_id, index.scope)):
            return None if is_made_good(index, instance, end) else end
    return None
