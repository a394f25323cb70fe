"""Audits that are evaluated without the model that they belong to, as ``sqlmesh audit`` does.

SQLMesh's state stays as it is: what the model misses it still misses.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from sqlmesh.utils.errors import CircuitBreakerError

from ...config.errors import LeaseLost
from ..intervals import Interval, contiguous
from ..ledger.outcome import AuditOutcome, Outcome, OutcomeStatus, add_audit, error_message
from ..naming import audit_use
from ..project.model_facts import audit_args
from ..project.outages import is_outage
from ..project.snapshots import display_name, table_identity
from .contract import AuditsAlone, ExecutionRequest
from .scheduler import audit_outcome

if TYPE_CHECKING:
    from sqlmesh.core.snapshot import Snapshot, SnapshotEvaluator

    from .scheduler import RecordingScheduler


@dataclass
class _Found:
    """What audits have found, by the model's use of each.

    Attributes:
        audits: Their results.
        errors: Why others could not be evaluated.
        outage: Why the rest was not tried: the server is out of reach.
    """

    audits: dict[str, AuditOutcome] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    outage: str | None = None

    @property
    def tried(self) -> Set[str]:
        return self.audits.keys() | self.errors.keys()

    @property
    def status(self) -> OutcomeStatus:
        if self.errors:
            return OutcomeStatus.FAILED
        if any(audit.blocking and not audit.passed for audit in self.audits.values()):
            return OutcomeStatus.AUDIT_FAILED
        return OutcomeStatus.AUDITED if self.audits else OutcomeStatus.NOT_AUDITED


class LoneAudits:
    """Evaluates the audits of a request that are to be evaluated alone.

    Args:
        scheduler: Knows the environment's snapshots and what is recorded of them.
        evaluator: Evaluates audits, and tells nobody else of them.
        request: What to do.
        environment: The environment's name.
    """

    def __init__(
        self,
        scheduler: RecordingScheduler,
        evaluator: SnapshotEvaluator,
        request: ExecutionRequest,
        environment: str,
    ) -> None:
        self._scheduler, self._evaluator = scheduler, evaluator
        self._request, self._environment = request, environment

    def evaluate(self, stops: Callable[[], bool]) -> None:
        """Evaluates what has no outcome yet, with the lease on it in hand.

        Args:
            stops: Asked before each model: whether to stop there.

        Raises:
            CircuitBreakerError: It was stopped.
            LeaseLost: Somebody else may be writing the tables.
            LeaseTaken: Somebody else goes on to evaluate them.
        """
        scheduler, snapshots = self._scheduler, self._scheduler.snapshots_by_name
        recorded = scheduler.recorder.recorded
        left = {name: each for name, each in self._request.alone.items() if name not in recorded}
        held = [snapshots[each.model] for each in left.values() if each.model in snapshots]
        if held:
            scheduler.lease.hold({table_identity(each): display_name(each) for each in held})
            scheduler.refresh()
        for name, alone in left.items():
            if stops():
                raise CircuitBreakerError
            scheduler.recorder.alone(self._outcome(name, alone, snapshots.get(alone.model)))

    def cancel(self) -> None:
        """Takes that a person has terminated the run before the rest."""
        recorder = self._scheduler.recorder
        for name in self._request.alone.keys() - recorder.recorded:
            alone = self._request.alone[name]
            recorder.alone(Outcome(name, alone.name, OutcomeStatus.CANCELLED))

    def _outcome(self, name: str, alone: AuditsAlone, snapshot: Snapshot | None) -> Outcome:
        nothing = Outcome(name, alone.name, OutcomeStatus.NOT_AUDITED)
        if snapshot is None:
            reason = f"not in environment {self._environment!r}: apply a SQLMesh plan"
            return replace(nothing, reason=reason)
        recorded = contiguous(self._scheduler.recorded_intervals(snapshot.name))
        if not recorded:
            return replace(nothing, reason="SQLMesh has recorded no interval of it")
        began = time.monotonic()
        with self._scheduler.in_flight.batch(name, alone.name):
            found = self._found(snapshot, alone, recorded)
        if found.outage is not None:
            return replace(nothing, reason=found.outage, unreachable=True)
        lacking = sorted(check for use, check in alone.audits.items() if use not in found.tried)
        return replace(
            nothing,
            status=found.status,
            intervals=recorded,
            duration_ms=round((time.monotonic() - began) * 1000),
            audits=tuple(found.audits.values()),
            reason=f"not in the environment's plan: {', '.join(lacking)}" if lacking else "",
            error="; ".join(found.errors.values()) or None,
            snapshot=snapshot.identifier,
        )

    def _found(
        self, snapshot: Snapshot, alone: AuditsAlone, recorded: Sequence[Interval]
    ) -> _Found:
        found = _Found()
        for use, only in _uses(snapshot, alone):
            audits = dict(found.audits)
            try:
                for audit in self._audit(only, recorded):
                    add_audit(audits, audit)
            # A macro that calls exit() would end SQLMesh and the whole run.
            except (Exception, SystemExit) as error:  # noqa: BLE001 - part of the outcome
                self._stop(error)
                if is_outage(error):
                    found.outage = error_message(error)
                    break
                found.errors[use] = f"{alone.audits.get(use, alone.name)}: {error_message(error)}"
            else:
                found.audits = audits
        return found

    def _stop(self, error: BaseException) -> None:
        """Raises where an audit's error is not the audit's own."""
        if self._scheduler.lease.lost:
            raise LeaseLost from error
        if self._scheduler.in_flight.stopped:
            raise CircuitBreakerError from error

    def _audit(self, use: Snapshot, recorded: Sequence[Interval]) -> Iterator[AuditOutcome]:
        """Evaluates one audit for all that is recorded, and not for the holes in between.

        An audit that does not ask for the time finds the same each time, which counts once.
        """
        queries = set()
        for start, end in recorded:
            for result in self._evaluator.audit(
                snapshot=use,
                start=start,
                end=end,
                execution_time=self._request.at,
                snapshots=self._scheduler.snapshots_by_name,
                deployability_index=self._scheduler.index,
            ):
                if not result.skipped and result.query not in queries:
                    queries.add(result.query)
                    yield audit_outcome(result, self._evaluator.adapter.dialect)


def _uses(snapshot: Snapshot, alone: AuditsAlone) -> Iterator[tuple[str, Snapshot]]:
    """Yields each use of an audit, and the snapshot as if that were its only one.

    SQLMesh evaluates all audits of a snapshot, and none after one that cannot be evaluated.
    """
    if not snapshot.is_model:
        yield snapshot.name, snapshot
        return
    for audit, arguments in snapshot.model.audits_with_args:
        use = audit_use(audit.name, audit_args(arguments))
        if use in alone.audits:
            only = {"audits": [(audit.name, arguments)], "audit_definitions": {audit.name: audit}}
            yield use, snapshot.copy(update={"node": snapshot.model.copy(update=only)})
