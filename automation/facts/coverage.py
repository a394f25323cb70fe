"""Tells which models a run covers, and which run covered a model last."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from functools import cached_property

import dagster as dg

from ...assets.dagster_internals import (
    FINISHED_STATUSES,
    AssetCheckEvaluationPlanned,
    AssetMaterializationPlannedData,
)
from ...assets.definitions.audits import runs_alone
from ...assets.definitions.specs import AssetIndex

_MANY = 100_000
_PAGE = 50
_MOST_PAGES = 20
_MOST_KEPT = 1000


class Coverage:
    """Reads which models runs are to evaluate.

    Args:
        index: Tells which asset or check stands for which model.
    """

    def __init__(self, index: AssetIndex) -> None:
        self._index = index
        self._by_plan: dict[str, Set[dg.AssetKey | dg.AssetCheckKey]] = {}
        self._behind: dict[str, tuple[int, str | None]] = {}

    def of(self, instance: dg.DagsterInstance, run: dg.DagsterRun) -> Set[str]:
        """Returns the ``fqn`` of what a run is to evaluate; not of what it only audits."""
        keys = self._keys(instance, run)
        assets = frozenset(key for key in keys if isinstance(key, dg.AssetKey))
        return {
            fqn
            for key in keys
            if (fqn := self._by_key.get(key)) and not runs_alone(self._index, fqn, assets, run.tags)
        }

    def _keys(
        self, instance: dg.DagsterInstance, run: dg.DagsterRun
    ) -> Set[dg.AssetKey | dg.AssetCheckKey]:
        """Returns what of the environment a run is to materialize and check."""
        selected = {*(run.asset_selection or ()), *(run.asset_check_selection or ())}
        if run.asset_selection and run.asset_check_selection is None:
            # Without a selection of checks, Dagster executes all those of the assets.
            selected |= {key for key in self._checks if key.asset_key in run.asset_selection}
        if selected:
            return selected
        # Runs of one whole job plan the same, and share the snapshot of their execution plan.
        plan = run.execution_plan_snapshot_id or run.run_id
        if plan in self._by_plan:
            return self._by_plan[plan]
        keys = frozenset(_planned(instance, run.run_id)) & self._ours
        # A run that has just been made may not have logged all of its plan.
        if run.status in FINISHED_STATUSES:
            if len(self._by_plan) >= _MOST_KEPT:
                self._by_plan.clear()
            self._by_plan[plan] = keys
        return keys

    def behind(
        self, instance: dg.DagsterInstance, reports: Mapping[str, int]
    ) -> dict[str, dg.RunRecord]:
        """Returns the last run that covered each model, where something else reported it since.

        Dagster forgets an asset's last run when a materialization is reported without one. The
        run before a report stays the same, so each report is looked behind once; the search ends
        after 1,000 runs of the instance.

        Args:
            instance: Records the runs.
            reports: The storage id of a model's or audit's last report, by ``fqn``.

        Returns:
            The run by ``fqn``; models without such a run are left out.
        """
        wanted = {
            fqn for fqn, report in reports.items() if self._behind.get(fqn, (None,))[0] != report
        }
        for fqn in wanted:
            self._behind[fqn] = (reports[fqn], None)
        for record in _newest_first(instance) if wanted else ():
            run = record.dagster_run
            for fqn in self.of(instance, run) & wanted:
                self._behind[fqn] = (reports[fqn], run.run_id)
                wanted.discard(fqn)
            if not wanted:
                break
        run_ids = {fqn: run_id for fqn in reports if (run_id := self._behind[fqn][1])}
        records = records_of(instance, set(run_ids.values()))
        return {fqn: records[run_id] for fqn, run_id in run_ids.items() if run_id in records}

    @cached_property
    def _checks(self) -> tuple[dg.AssetCheckKey, ...]:
        return tuple(key for keys in self._index.checks.values() for key in keys)

    @cached_property
    def _ours(self) -> Set[dg.AssetKey | dg.AssetCheckKey]:
        return {*self._by_key, *(key.asset_key for key in self._checks)}

    @cached_property
    def _by_key(self) -> dict[dg.AssetKey | dg.AssetCheckKey, str]:
        return {
            **{key: fqn for fqn, key in self._index.evaluated.items()},
            **{key: fqn for fqn, keys in self._index.checks.items() for key in keys},
        }


def records_of(instance: dg.DagsterInstance, run_ids: Set[str]) -> dict[str, dg.RunRecord]:
    """Returns the records of some runs, by id."""
    if not run_ids:
        return {}
    records = instance.get_run_records(dg.RunsFilter(run_ids=list(run_ids)))
    return {record.dagster_run.run_id: record for record in records}


def _newest_first(instance: dg.DagsterInstance) -> Iterator[dg.RunRecord]:
    """Yields the instance's last runs, whatever their status."""
    cursor = None
    for _ in range(_MOST_PAGES):
        page = instance.get_run_records(limit=_PAGE, cursor=cursor)
        yield from page
        if len(page) < _PAGE:
            return
        cursor = page[-1].dagster_run.run_id


def _planned(instance: dg.DagsterInstance, run_id: str) -> Iterator[dg.AssetKey | dg.AssetCheckKey]:
    """Yields what a run of a whole job is to materialize and check."""
    events = instance.get_records_for_run(
        run_id,
        of_type={
            dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED,
            dg.DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED,
        },
        limit=_MANY,
    )
    for record in events.records:
        event = record.event_log_entry.dagster_event
        data = event.event_specific_data if event else None
        if isinstance(data, AssetMaterializationPlannedData):
            yield data.asset_key
        elif isinstance(data, AssetCheckEvaluationPlanned):
            yield data.asset_check_key
