"""What Dagster's side of a run and SQLMesh's have to do with each other.

Both sides know this module, and nothing else of each other. All that crosses can be pickled, since
SQLMesh's side may be another process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from ...config.rules import BatchLimit
from ..intervals import Interval
from ..ledger.history import RunEvent
from ..ledger.outcome import Legacy, Outcome


class Task(StrEnum):
    """What SQLMesh's side can be asked to do; :mod:`.tasks` has the functions."""

    EXECUTE = "execute"
    RESTATE = "restate"
    PREVIEW = "preview"


@dataclass(frozen=True, slots=True)
class Unready:
    """Why intervals of a model are not ready although its cron has elapsed.

    Attributes:
        signal: The signal that holds them; empty where no signal does.
        upstream: The model upstream that has this signal, in words; empty where it is its own.
        others: How many more models upstream a signal holds.
    """

    signal: str = ""
    upstream: str = ""
    others: int = 0

    def __str__(self) -> str:
        if self.signal and not self.upstream:
            return f"signal {self.signal} holds it"
        more = f" and {self.others} more" if self.others else ""
        named = f" {self.upstream} (signal {self.signal}){more}" if self.upstream else ""
        return f"upstream{named} is not ready"


@dataclass(frozen=True)
class AuditsAlone:
    """Audits that are evaluated without the model that they belong to.

    Attributes:
        name: The name that a person knows the model by.
        model: The model's ``fqn``, or the standalone audit's or external model's.
        audits: Names of the checks, by the model's use of an audit; a standalone audit is its one.
    """

    name: str
    model: str
    audits: Mapping[str, str]


@dataclass(frozen=True)
class ExecutionRequest:
    """What one execution is to do.

    Attributes:
        run_id: The Dagster run.
        selected: Names of the models and standalone audits whose outcome is wanted, by ``fqn``.
        ignoring: ``fqn`` of what is evaluated without its upstream, even if that misses intervals.
        at: The moment for which the execution is done, aware; crons that elapsed by then count.
        limits: The longest that one batch may take, by ``fqn``, of what has a limit. Upstream
            models that are not selected have theirs as well.
        alone: The audits that are evaluated alone, by the name that :func:`.audits_of` gives.
        one_at_a_time: Whether no two models are evaluated at the same time, so that it can be told
            which one ends the process.
    """

    run_id: str
    selected: Mapping[str, str]
    ignoring: frozenset[str]
    at: datetime
    limits: Mapping[str, BatchLimit]
    alone: Mapping[str, AuditsAlone] = field(default_factory=dict)
    one_at_a_time: bool = False


class JobSide(Protocol):
    """Dagster's side of a job that people launch."""

    def say(self, message: str) -> None:
        """Writes a line to the run's log."""


class RunSide(JobSide, Protocol):
    """Dagster's side of an execution, as SQLMesh's side asks it and tells it. Thread-safe."""

    def admit(self) -> Legacy | None:
        """Called once after the lease is acquired.

        Returns:
            What an earlier process of this run left behind, or ``None`` if the round is already
            over.
        """

    def cancelled(self) -> bool:
        """Called before every batch: whether to stop the execution there."""

    def killed(self) -> bool:
        """Called every second: whether to cancel what is being evaluated, and stop at once."""

    def overran(self, model: str, error: str) -> None:
        """Takes a model that goes on, some seconds after its statements were cancelled.

        Args:
            model: Its ``fqn``.
            error: Why it was cancelled.
        """

    def handed_over(self) -> bool:
        """Called after the execution stopped: whether another process does the rest."""

    def terminated(self) -> bool:
        """Called after the execution was stopped: whether a person has terminated the run."""

    def given_up(self) -> bool:
        """Called while the execution waits for the lease: whether to end the wait."""

    def run_event(self, gave_up: bool) -> RunEvent | None:
        """Called at the end.

        Args:
            gave_up: Whether the execution gave up.

        Returns:
            What has come about of the run, or ``None`` if the run goes on.
        """

    def plan(self, batches: Mapping[str, Sequence[Interval]]) -> None:
        """Takes the batches that SQLMesh has not recorded and is about to evaluate, by ``fqn``."""

    def began(self, model: str) -> None:
        """Takes the ``fqn`` of a model of which a batch is being evaluated from here on."""

    def left(self, model: str) -> None:
        """Takes the ``fqn`` of a model whose batch is no longer being evaluated."""

    def record(self, outcome: Outcome) -> None:
        """Takes an outcome that is final."""
