"""Looks at whether a run goes on, which an execution takes up to four times a second."""

from __future__ import annotations

import dagster as dg

from ..dagster_internals import FINISHED_STATUSES

_OVER = {*FINISHED_STATUSES, dg.DagsterRunStatus.CANCELING}
_GOING_ON = [status for status in dg.DagsterRunStatus if status not in _OVER]


def goes_on(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Returns whether a run is there and neither has ended nor is to end.

    Asks by the status alone: the run itself holds the keys of all assets that it selects, thousands
    where it is large, and reading them would take a part of each second.
    """
    return bool(instance.get_run_ids(dg.RunsFilter(run_ids=[run_id], statuses=_GOING_ON)))
