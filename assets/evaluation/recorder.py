"""Turns SQLMesh's progress into outcomes, each as soon as it is final.

Knows SQLMesh's objects only by what it is handed, and imports nothing of it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from dataclasses import replace
from datetime import UTC, datetime

from ..intervals import Interval, contiguous
from ..ledger.outcome import (
    FAILURES,
    IN_MIDDLE,
    AuditOutcome,
    Legacy,
    Outcome,
    OutcomeStatus,
    add_audit,
    audited_model,
    audits_of,
    is_alone,
)
from .progress import Progress


class Recorder:
    """Collects one execution's progress and hands out each outcome once.

    Called from SQLMesh's worker threads.

    Args:
        record: Takes an outcome that is final.
        plan: Takes the batches that SQLMesh has not recorded and is about to evaluate, by ``fqn``.

    Attributes:
        plan: Id of the plan that the environment is at.
        inherited: The batches that a process that died had planned, by ``fqn``, of the models
            that it has not recorded.
        owes_end: As :attr:`.Legacy.owes_end`.
    """

    def __init__(
        self,
        record: Callable[[Outcome], None],
        plan: Callable[[Mapping[str, Sequence[Interval]]], None],
    ) -> None:
        self._record, self._say_plan = record, plan
        self._lock = threading.RLock()
        self._progress: dict[str, Progress] = {}
        self._recorded: dict[str, OutcomeStatus] = {}
        self.plan: str | None = None
        self.inherited: Mapping[str, Sequence[Interval]] = {}
        self.owes_end = False

    @property
    def recorded(self) -> Set[str]:
        """``fqn`` of the models whose outcome is recorded."""
        with self._lock:
            return frozenset(self._recorded)

    @property
    def failures(self) -> Set[str]:
        """``fqn`` of those among them that failed."""
        with self._lock:
            return {model for model, status in self._recorded.items() if status in FAILURES}

    @property
    def blocked(self) -> Set[str]:
        """``fqn`` of the models of which a blocking audit has failed that was evaluated alone."""
        failed = OutcomeStatus.AUDIT_FAILED
        with self._lock:
            alone = (name for name, status in self._recorded.items() if status is failed)
            return {audited_model(name) for name in alone if is_alone(name)}

    def inherit(self, legacy: Legacy) -> None:
        """Takes what a process before this one has recorded of the same round, and planned."""
        with self._lock:
            self.owes_end = legacy.owes_end
            for model, outcome in legacy.outcomes.items():
                self._recorded[model] = outcome.status
                failed = outcome.status in FAILURES
                self._progress[model] = Progress(outcome.name, "", failed=failed)
            self.inherited = {
                model: batches
                for model, batches in legacy.planned.items()
                if model not in legacy.outcomes
            }

    def planned(
        self,
        progress: Mapping[str, Progress],
        selected: Collection[str],
        new: Mapping[str, Sequence[Interval]],
    ) -> None:
        """Takes what SQLMesh is about to evaluate.

        Args:
            progress: Every model that SQLMesh considers and every selected one, by ``fqn``.
                Those without batches get their outcome now.
            selected: The models whose outcome is wanted even when nothing happens to them.
            new: The batches among them that SQLMesh has not recorded, by ``fqn``.
        """
        with self._lock:
            self._say_plan(new)
            for model, entry in progress.items():
                earlier = self._progress.get(model)
                if earlier is not None and earlier.done:
                    # SQLMesh began anew after a plan: what it had recorded stays done.
                    entry.planned = [*earlier.done, *entry.planned[len(entry.done) :]]
                    entry.done, entry.recovered = earlier.done, earlier.recovered
                    for name in ("interval_count", "duration_ms", "rows", "bytes", "audits"):
                        setattr(entry, name, getattr(earlier, name))
                self._progress[model] = entry
                if len(entry.done) == len(entry.planned):
                    if entry.done:
                        self._finish(model, OutcomeStatus.EXECUTED)
                    elif model in selected:
                        status = (
                            OutcomeStatus.NOT_READY if entry.reason else OutcomeStatus.UP_TO_DATE
                        )
                        self._finish(model, status)

    def audited(self, model: str, results: Sequence[AuditOutcome]) -> None:
        """Takes the audits of one batch."""
        with self._lock:
            audits = self._progress[model].audits
            for result in results:
                add_audit(audits, result)

    def alone(self, outcome: Outcome) -> None:
        """Takes what has become of audits that were evaluated without their model."""
        with self._lock:
            if outcome.model not in self._recorded:
                self._recorded[outcome.model] = outcome.status
                self._progress[outcome.model] = Progress(outcome.subject, outcome.snapshot or "")
                self._record(replace(outcome, plan=self.plan))

    def done(
        self,
        model: str,
        interval: Interval,
        *,
        interval_count: int,
        duration_ms: int,
        rows: int | None,
        bytes_: int | None,
    ) -> None:
        """Takes a batch that was evaluated and audited."""
        with self._lock:
            entry = self._progress[model]
            entry.done.append(interval)
            entry.interval_count += interval_count
            entry.duration_ms += duration_ms
            entry.rows = _sum(entry.rows, rows)
            entry.bytes = _sum(entry.bytes, bytes_)
            if len(entry.done) == len(entry.planned):
                self._finish(model, OutcomeStatus.EXECUTED)

    def failed(
        self,
        model: str,
        *,
        error: str,
        audit: bool,
        sql: str | None = None,
        unreachable: bool = False,
    ) -> None:
        """Takes a failure of a batch, or of the model as a whole; the first one counts."""
        with self._lock:
            entry = self._progress[model]
            if not entry.failed:
                entry.failed, entry.audit_failed = True, audit
                entry.error, entry.sql, entry.unreachable = error, sql, unreachable
            if len(entry.planned) == 1:
                self._finish_failed(model)

    def stopped(self, model: str) -> None:
        """Takes that the run was stopped in the middle of a model."""
        with self._lock:
            self._progress[model].reason = IN_MIDDLE

    def absent(self, model: str, name: str, environment: str) -> None:
        """Takes a selected model that the environment does not hold."""
        with self._lock:
            self._progress[model] = Progress(
                name=name,
                snapshot="",
                failed=True,
                error=f"it is not in environment {environment!r}: apply it with a SQLMesh plan",
            )
            self._finish_failed(model)

    def passed_over(self, model: str, name: str, failed: Collection[str]) -> None:
        """Takes a selected model that is not tried because models upstream of it have failed."""
        with self._lock:
            self._progress[model] = Progress(name, "")
            self.skipped(model, failed)

    def skipped(self, model: str, failed: Collection[str]) -> None:
        """Takes a model with batches that are not tried because models upstream have failed."""
        with self._lock:
            progress = (
                self._progress.get(upstream) or self._progress[audits_of(upstream)]
                for upstream in failed
            )
            names = sorted(entry.name for entry in progress)
            self._progress[model].reason = f"upstream {', '.join(names)} failed"
            self._finish(model, OutcomeStatus.SKIPPED)

    def close_failures(self) -> None:
        """Takes the end of one pass: what has failed is not tried again."""
        with self._lock:
            for model, entry in self._progress.items():
                if entry.failed:
                    self._finish_failed(model)

    def ended(
        self,
        skipped: Collection[str],
        upstream: Callable[[str], Collection[str]],
        *,
        stopped: bool,
        terminated: bool,
    ) -> None:
        """Takes the end of the execution: nothing follows.

        Args:
            skipped: Models that SQLMesh passed over because of a failure upstream.
            upstream: All ancestors of a model.
            stopped: Whether the execution was stopped before its end.
            terminated: Whether that is because a person has terminated the run. What is left is
                cancelled then; else it has no outcome, as what was never tried.
        """
        with self._lock:
            self.close_failures()
            for model, entry in self._progress.items():
                if model in self._recorded or not entry.planned:
                    continue
                failed = sorted(
                    self._progress[name].name
                    for name in upstream(model)
                    if name in self._progress and self._progress[name].failed
                )
                # What reads a model that was not started is skipped as well, by SQLMesh's word.
                if model in skipped and (failed or not stopped):
                    entry.reason = f"upstream {', '.join(failed)} failed"
                    self._finish(model, OutcomeStatus.SKIPPED)
                elif terminated:
                    self._finish(model, OutcomeStatus.CANCELLED)

    def _finish_failed(self, model: str) -> None:
        status = (
            OutcomeStatus.AUDIT_FAILED
            if self._progress[model].audit_failed
            else OutcomeStatus.FAILED
        )
        self._finish(model, status)

    def _finish(self, model: str, status: OutcomeStatus) -> None:
        if model in self._recorded:
            return
        self._recorded[model] = status
        entry = self._progress[model]
        self._record(
            Outcome(
                model=model,
                name=entry.name,
                status=status,
                intervals=contiguous(entry.done),
                interval_count=entry.interval_count,
                batches=len(entry.done),
                duration_ms=entry.duration_ms,
                rows=entry.rows,
                bytes=entry.bytes,
                audits=tuple(entry.audits.values()),
                reason=entry.reason,
                error=entry.error,
                sql=entry.sql,
                snapshot=entry.snapshot,
                hashes=entry.hashes,
                table=entry.table,
                plan=self.plan,
                evaluated_at=datetime.now(UTC) if entry.done else None,
                next_interval=entry.next_interval,
                recorded=entry.recorded and entry.recorded.with_evaluated(entry.done),
                feeds_executed=entry.feeds_executed,
                recovered=entry.recovered,
                unreachable=entry.unreachable,
            )
        )


def _sum(first: int | None, second: int | None) -> int | None:
    return second if first is None else first + (second or 0)
