"""What an execution knows of one model on the way to its outcome."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from ..intervals import Interval, Record
from ..ledger.outcome import AuditOutcome, Hashes


@dataclass
class Progress:
    """What is known so far of one model in one execution.

    Attributes:
        hashes: Which version of it the environment holds.
        planned: The batches that are done, and those that SQLMesh means to evaluate.
        done: The batches that it has evaluated, audits included.
        recovered: Whether a process that died has evaluated some of them.
        failed: Whether a batch failed.
        recorded: What SQLMesh had recorded before; ``None`` where that is not known.
        audit_failed: Whether a blocking audit was the cause.
    """

    name: str
    snapshot: str
    hashes: Hashes | None = None
    table: str | None = None
    planned: Sequence[Interval] = ()
    done: list[Interval] = field(default_factory=list)
    interval_count: int = 0
    duration_ms: int = 0
    rows: int | None = None
    bytes: int | None = None
    audits: dict[str, AuditOutcome] = field(default_factory=dict)
    failed: bool = False
    audit_failed: bool = False
    error: str | None = None
    sql: str | None = None
    unreachable: bool = False
    recovered: bool = False
    reason: str = ""
    next_interval: datetime | None = None
    recorded: Record | None = None
    feeds_executed: bool = False
