"""Which models SQLMesh would evaluate at a moment, without evaluating or writing anything.

The same steps that ``Context.run`` takes before it evaluates, on the state as it is now.
(``Context.check_intervals`` answers from a cache and leaves restatements out.)
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlmesh.core.snapshot import (
    DeployabilityIndex,
    Snapshot,
    apply_auto_restatements,
    snapshots_to_dag,
)

from ...assets.evaluation.console import SignalConsole, unready_reasons
from ...assets.evaluation.readiness import (
    ReadinessFailure,
    ReadinessScheduler,
    take_empty_restatements,
)
from ...assets.intervals import Interval, Record, moment
from ...assets.lease.waiting import Wait, database_lease
from ...assets.ledger.outcome import Hashes
from ...assets.project.ahead import recorded_ahead
from ...assets.project.environment import read_environment, relative_note
from ...assets.project.failures import naming_failures
from ...assets.project.opening import SQLMESH_LOCK, duckdb_files, open_context
from ...assets.project.spans import Spans
from ...assets.project.withholding import Withholding
from ...config.settings import AutomationSettings
from .facts import Due, DueState
from .intervals import Before, due_of
from .state import deployable, intervals_since, restated_at, uncached, unchanged, written_state

if TYPE_CHECKING:
    from sqlmesh.core.context import Context
    from sqlmesh.core.environment import Environment

LEASE_SECONDS = 1.0
"""How long a tick waits for an execution that holds the DuckDB database."""


_LONGEST = timedelta(minutes=5)
"""How long an answer is reused at most: near a change of daylight saving time SQLMesh's crons with
a time zone may elapse at another moment than it predicts."""


@dataclass(frozen=True)
class _Answer:
    """What is due, and how long that stays true.

    Attributes:
        state: What is due.
        written: What SQLMesh's state held then, as :func:`.written_state` tells it.
        until: The moment at which a cron can change the answer.
    """

    state: DueState
    written: tuple[Any, ...]
    until: datetime

    def holds(self, written: tuple[Any, ...], at: datetime) -> bool:
        """Whether nothing else can have become due."""
        return written == self.written and self.state.at <= at < self.until


class DueReader:
    """Reads what is due, tick after tick, in one long-lived process.

    Keeps the snapshots of the environment between reads and refreshes their intervals; closes
    its connections after each read, because an idle one locks a DuckDB file for everybody else.

    Args:
        settings: The project, gateway and environment.
        wait: How to wait for an execution that has the DuckDB database open; a second if not given.
    """

    def __init__(self, settings: AutomationSettings, wait: Wait | None = None) -> None:
        self._settings, self._wait = settings, wait or Wait(LEASE_SECONDS)
        self._lock = threading.Lock()
        self._context: Context | None = None
        self._plan_id: str | None = None
        self._snapshots: dict[Any, Snapshot] = {}
        self._spans = Spans({}, datetime.now(UTC))
        self._deployable: DeployabilityIndex | None = None
        self._answer: _Answer | None = None
        self._warnings: list[str] = []

    def read(self, at: datetime) -> DueState:
        """What SQLMesh would evaluate at a moment, past or future.

        Args:
            at: Aware. Crons that elapsed by then count.

        Raises:
            EnvironmentNotFound: The environment has never been planned.
            DatabaseLocked: An execution or another process has the DuckDB database open.
            StateUnavailable: The state database or the warehouse cannot be reached.
            ConfigurationError: The project cannot be opened.
        """
        with self._lock, self._opened() as context, SQLMESH_LOCK:
            environment = read_environment(context, self._settings)
            written = written_state(context, environment)
            if self._answer is None or not self._answer.holds(written, at):
                self._answer = None
                state = self._read(context, environment, at)
                self._answer = _Answer(state, written, self._changes_at(state))
                return state
            return replace(self._answer.state, at=at)

    def _read(self, context: Context, environment: Environment, at: datetime) -> DueState:
        self._refresh(context, environment)
        self._warnings += take_empty_restatements(self._snapshots.values(), at)
        self._deployable = deployable(environment, self._snapshots)
        spans = self._spans = Spans(self._snapshots, at)
        return DueState(
            at=at,
            plan_id=environment.plan_id,
            planned_at=moment(environment.finalized_ts) if environment.finalized_ts else None,
            models={snapshot.name for snapshot in self._snapshots.values()},
            due=self._due(context, environment, at),
            next_cron=self._of_each(spans.next_tick),
            starts=self._of_each(spans.starts),
            ended=self._of_each(spans.ended),
            altered=self._altered(),
            hashes={
                each.name: Hashes(each.fingerprint.data_hash, each.fingerprint.metadata_hash)
                for each in self._snapshots.values()
                if not (each.is_model and each.model.kind.is_external)
            },
            warnings=tuple(self._warnings),
        )

    def _changes_at(self, state: DueState) -> datetime:
        """When the answer may change without anything that SQLMesh writes."""
        models = [snapshot for snapshot in self._snapshots.values() if snapshot.is_model]
        asked = any(each.model.signals for each in models if each.name in state.due)
        if asked or any(each.model.allow_partials for each in models):
            return state.at
        restated = [restated_at(each) for each in models if each.model.auto_restatement_cron]
        moments = [*state.next_cron.values(), *state.starts.values(), *restated]
        return min([*moments, state.at + _LONGEST])

    def recorded(self, model: str) -> tuple[str, Record] | None:
        """A model's snapshot and what is recorded, as of the last :meth:`read`; by ``fqn``."""
        for snapshot in self._snapshots.values():
            if snapshot.name == model:
                main = self._deployable is None or self._deployable.is_representative(snapshot)
                ranges = snapshot.intervals if main else snapshot.dev_intervals
                with SQLMESH_LOCK:
                    return snapshot.identifier, self._spans.record(snapshot, ranges)
        return None

    def altered_since(self, models: Mapping[str, int]) -> dict[str, list[Interval]]:
        """The intervals of some models that SQLMesh has recorded since some moments.

        Args:
            models: Moments in SQLMesh's milliseconds, by ``fqn``.

        Returns:
            The intervals by ``fqn``, in the order in which they were recorded; none of a model
            whose intervals SQLMesh has compacted since.
        """
        versions = {s.name: s.version for s in self._snapshots.values() if s.name in models}
        with self._lock, self._opened() as context, SQLMESH_LOCK:
            rows = intervals_since(context, min(models.values()))
        intervals: dict[str, list[Interval]] = {}
        for name, version, start, end, altered in rows:
            if name in models and version == versions[name] and altered > models[name]:
                intervals.setdefault(name, []).append((moment(start), moment(end)))
        return intervals

    def relative_note(self) -> str:
        """Returns which databases depend on the working directory; empty if none do."""
        with self._lock, self._opened() as context, SQLMESH_LOCK:
            return relative_note(context, self._settings)

    def recorded_ahead(self) -> dict[str, tuple[Interval, ...]]:
        """Returns what was recorded before it had ended, as :func:`.recorded_ahead`, by ``fqn``.

        It is about the models of the last :meth:`read`.
        """
        with self._lock, self._opened() as context, SQLMESH_LOCK:
            return recorded_ahead(context, self._snapshots.values())

    @contextmanager
    def _opened(self) -> Iterator[Context]:
        if self._context is None:
            with open_context(self._settings, load=False) as context:
                self._context = context
        context = self._context
        with database_lease(duckdb_files(context), self._wait, "a tick"):
            try:
                with naming_failures(self._settings):
                    yield context
            finally:
                context.close()

    def _refresh(self, context: Context, environment: Environment) -> None:
        state = uncached(context)
        if environment.plan_id != self._plan_id or not environment.finalized_ts:
            self._snapshots = dict(state.get_snapshots(environment.snapshots))
            self._warnings = []
            self._plan_id = environment.plan_id
            return
        restated = [
            s for s in self._snapshots.values() if s.is_model and s.model.auto_restatement_cron
        ]
        for snapshot_id, fresh in (state.get_snapshots(restated) if restated else {}).items():
            kept = self._snapshots[snapshot_id]
            kept.next_auto_restatement_ts = fresh.next_auto_restatement_ts
        for snapshot in self._snapshots.values():
            # A refresh only adds to these.
            snapshot.pending_restatement_intervals = []
        state.refresh_snapshot_intervals(self._snapshots.values())

    def _due(self, context: Context, environment: Environment, at: datetime) -> dict[str, Due]:
        prod = environment.naming_info.name == "prod"
        snapshots = self._snapshots
        index = deployable(environment, snapshots)
        console = SignalConsole()
        before = {
            snapshot.name: Before(list(snapshot.intervals), restated_at(snapshot))
            for snapshot in snapshots.values()
            if prod and snapshot.is_model and snapshot.model.auto_restatement_cron
        }
        with unchanged(snapshots):
            if prod:  # as Context.run, which enables auto restatements for prod alone
                apply_auto_restatements(snapshots, at)
            scheduler = ReadinessScheduler(
                snapshots.values(),
                context.snapshot_evaluator,
                uncached(context),
                default_catalog=context.default_catalog,
                console=console,
            )
            merged = scheduler.merged_missing_intervals(
                end=at, execution_time=at, deployability_index=index
            )
            dag = snapshots_to_dag(scheduler.snapshots.values())
            batches = scheduler.batch_intervals(
                merged,
                index,
                environment.naming_info,
                dag=dag.subdag(*(snapshot.snapshot_id for snapshot in merged)),
            )
            recorded = {
                snapshot.name: snapshot.intervals
                if index.is_representative(snapshot)
                else snapshot.dev_intervals
                for snapshot in batches
            }
        reasons = unready_reasons(console.holding, scheduler.snapshots)
        failures = self._told(scheduler.unready)
        return {
            snapshot.name: due_of(
                snapshot,
                intervals,
                recorded[snapshot.name],
                reasons.get(snapshot.name),
                before.get(snapshot.name, Before()),
                failures.get(snapshot.name),
                at,
            )
            for snapshot, intervals in batches.items()
        }

    def _told(self, failures: Mapping[str, ReadinessFailure]) -> dict[str, str]:
        """Returns what Dagster may show of why nobody can tell whether models are ready."""
        if not failures:
            return {}
        withholding = Withholding(self._settings)
        return {name: withholding.text(str(failure)) for name, failure in failures.items()}

    def _altered(self) -> dict[str, int]:
        """When each model's table was last written that the environment shows."""
        assert self._deployable is not None
        index = self._deployable
        milliseconds = {
            snapshot.name: snapshot.last_altered_ts
            if index.is_representative(snapshot)
            else snapshot.dev_last_altered_ts
            for snapshot in self._snapshots.values()
            if snapshot.is_model
        }
        return {name: altered for name, altered in milliseconds.items() if altered}

    def _of_each(self, look: Callable[[Snapshot], datetime | None]) -> dict[str, datetime]:
        """What there is of a moment in each model that SQLMesh evaluates, by ``fqn``."""
        return {
            snapshot.name: found
            for snapshot in self._snapshots.values()
            if snapshot.evaluatable and (found := look(snapshot)) is not None
        }
