"""What an execution did to one model."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from pydantic import AwareDatetime, TypeAdapter

from ..intervals import Interval, Record, interval_to_json

_LONGEST_ERROR = 500
_MOMENTS = ("evaluated_at", "next_interval")


class OutcomeStatus(StrEnum):
    """What an execution did to one model."""

    EXECUTED = "executed"
    UP_TO_DATE = "up_to_date"
    NOT_READY = "not_ready"
    FAILED = "failed"
    AUDIT_FAILED = "audit_failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"
    AUDITED = "audited"
    NOT_AUDITED = "not_audited"


SUCCESSES = frozenset(
    {
        OutcomeStatus.EXECUTED,
        OutcomeStatus.UP_TO_DATE,
        OutcomeStatus.NOT_READY,
        OutcomeStatus.AUDITED,
        OutcomeStatus.NOT_AUDITED,
    }
)
"""Statuses with which a step succeeds."""

_VERBS = {OutcomeStatus.AUDITED: "", OutcomeStatus.NOT_AUDITED: " not evaluated"}

FAILURES = frozenset({OutcomeStatus.FAILED, OutcomeStatus.AUDIT_FAILED})
"""Statuses of a model that SQLMesh tried to evaluate and could not."""


IN_MIDDLE = "while it was evaluated"
"""Reason of a cancelled model that was begun; one that was not has none."""

_ALONE = "audits of "


def audits_of(model: str) -> str:
    """What a run calls the audits of a model that it evaluates without the model.

    A name of their own: whoever asks what became of the model is not told of its audits.

    Args:
        model: The model's ``fqn``, or a standalone audit's.
    """
    return f"{_ALONE}{model}"


def is_alone(name: str) -> bool:
    """Whether a name is one that :func:`audits_of` has given."""
    return name.startswith(_ALONE)


def audited_model(name: str) -> str:
    """The ``fqn`` of which :func:`audits_of` has made a name."""
    return name.removeprefix(_ALONE)


@dataclass(frozen=True, slots=True)
class AuditOutcome:
    """One audit of one model, over all batches of the execution.

    Attributes:
        check: Name of the asset check; as SQLMesh's side hands it out, only the words of it.
        use: Identifies the model's use of the audit, as :func:`.audit_use`.
        passed: Whether no batch had a failing row.
        blocking: Whether SQLMesh stopped at the model because of it, had it failed.
        count: Failing rows, over all batches.
        query: The audit's query for the first batch that failed.
    """

    check: str
    passed: bool
    blocking: bool
    count: int
    query: str | None = None
    use: str = ""


def add_audit(audits: dict[str, AuditOutcome], audit: AuditOutcome) -> None:
    """Adds what an audit has found to what it found before, by the model's use of it."""
    if (earlier := audits.get(audit.use)) is not None:
        audit = dataclasses.replace(
            earlier,
            passed=earlier.passed and audit.passed,
            blocking=earlier.blocking or audit.blocking,
            count=earlier.count + audit.count,
            query=earlier.query or audit.query,
        )
    audits[audit.use] = audit


@dataclass(frozen=True, slots=True)
class Hashes:
    """What tells one version of a model or standalone audit from another, as SQLMesh has it.

    Attributes:
        data: SQLMesh's hash of what determines the data.
        metadata: SQLMesh's hash of all else, such as crons and audits.
    """

    data: str
    metadata: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an execution did to one model.

    Attributes:
        model: The model's ``fqn``, or a standalone audit's; :func:`audits_of` it where its audits
            alone were evaluated.
        name: The name that a person knows it by.
        intervals: What was evaluated with success, as contiguous ranges; of audits alone, what
            they were evaluated for.
        interval_count: How many of the model's own intervals these ranges hold.
        batches: How many batches were evaluated with success.
        duration_ms: Evaluation time of these batches, in milliseconds.
        rows: Rows written, where the engine tells it.
        bytes: Bytes processed, where the engine tells it.
        reason: Why, for a person; empty where the status says it all.
        error: SQLMesh's message, where the model failed.
        sql: The rendered query of the batch that failed.
        snapshot: Identifier of the SQLMesh snapshot.
        hashes: The version of it that the environment holds, where that is known.
        table: The physical table that was written, where there is one.
        plan: Id of the plan that the environment was at.
        evaluated_at: When the last batch was recorded, by the clock of the process that executed;
            aware, and never before what SQLMesh itself has written down for it.
        next_interval: When the model's next interval is due, in UTC.
        recorded: All that SQLMesh has recorded of the model then; ``None`` where that is not known.
        feeds_executed: Whether a selected model downstream is evaluated in the same execution.
        recovered: Whether a process that died has evaluated it, at least in part, and SQLMesh's
            state is all that is known of that.
        unreachable: Whether it failed because a server was out of reach.
    """

    model: str
    name: str
    status: OutcomeStatus
    intervals: tuple[Interval, ...] = ()
    interval_count: int = 0
    batches: int = 0
    duration_ms: int = 0
    rows: int | None = None
    bytes: int | None = None
    audits: tuple[AuditOutcome, ...] = ()
    reason: str = ""
    error: str | None = None
    sql: str | None = None
    snapshot: str | None = None
    hashes: Hashes | None = None
    table: str | None = None
    plan: str | None = None
    evaluated_at: AwareDatetime | None = None
    next_interval: AwareDatetime | None = None
    recorded: Record | None = None
    feeds_executed: bool = False
    recovered: bool = False
    unreachable: bool = False

    @property
    def succeeded(self) -> bool:
        """Whether a step may succeed with it."""
        return self.status in SUCCESSES

    @property
    def is_alone(self) -> bool:
        """Whether audits were evaluated and not their model."""
        return is_alone(self.model)

    @property
    def subject(self) -> str:
        """What it is about, for a person."""
        return f"{_ALONE}{self.name}" if self.is_alone else self.name

    def summary(self) -> str:
        """One line for a run's log, such as ``sales.orders executed: 2 intervals, 0.8 s``."""
        parts = []
        if self.is_alone and self.audits:
            passed = sum(audit.passed for audit in self.audits)
            parts.append(f"{passed} of {len(self.audits)} passed")
        if self.interval_count:
            parts.append(f"{self.interval_count:,} interval{'s' * (self.interval_count != 1)}")
        if self.rows is not None:
            parts.append(f"{self.rows:,} row{'s' * (self.rows != 1)}")
        if self.batches:
            parts.append(f"{self.duration_ms / 1000:.1f} s")
        if self.reason:
            parts.append(self.reason)
        if self.error:
            # In one line; the whole of it is in the step's metadata.
            parts.append(textwrap.shorten(self.error, _LONGEST_ERROR, placeholder=" …"))
        if self.status is OutcomeStatus.UP_TO_DATE and self.next_interval:
            parts.append(f"next interval ready at {self.next_interval:%Y-%m-%d %H:%M} UTC")
        verb = _VERBS.get(self.status, f" {self.status.value.replace('_', ' ')}")
        return f"{self.subject}{verb}" + (f": {', '.join(parts)}" if parts else "")

    def to_json(self) -> dict[str, Any]:
        """A JSON object that :meth:`from_json` reads."""
        return {
            **dataclasses.asdict(self),
            "intervals": [interval_to_json(interval) for interval in self.intervals],
            "recorded": self.recorded and self.recorded.to_json(),
            **{name: (at := getattr(self, name)) and at.isoformat() for name in _MOMENTS},
        }

    @classmethod
    def from_json(cls, content: object) -> Outcome:
        """Reads :meth:`to_json`.

        Raises:
            ValueError: It is not such an object.
        """
        return _OUTCOME.validate_python(content)


_OUTCOME = TypeAdapter(Outcome)


def error_message(error: BaseException) -> str:
    """An error with its kind, as outcomes show it."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


@dataclass(frozen=True)
class Legacy:
    """What a process that executed a round and died, or a run, has left in the ledger.

    Attributes:
        outcomes: The outcomes that it recorded, by ``fqn``.
        planned: The batches that it meant to evaluate and that SQLMesh had not recorded before,
            by ``fqn``. Those that SQLMesh has recorded now, it has evaluated.
        is_first: Whether nothing of the run has been executed before.
        owes_end: Whether SQLMesh has evaluated models and not come to its end, or failed there.
    """

    outcomes: Mapping[str, Outcome] = field(default_factory=dict)
    planned: Mapping[str, Sequence[Interval]] = field(default_factory=dict)
    is_first: bool = False
    owes_end: bool = False
