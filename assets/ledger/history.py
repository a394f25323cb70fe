"""What a run's ledger says: rounds, who leads them, outcomes. Pure; reads and writes nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from enum import StrEnum

from ..intervals import Interval
from .outcome import FAILURES, Outcome, OutcomeStatus

END_UNKNOWN = (
    "the process that executed ended before SQLMesh did, so that statements of after_all may not "
    "have been executed"
)


class RunEvent(StrEnum):
    """What comes about of a run, named as SQLMesh names what notification targets are told."""

    RUN_END = "run_end"
    RUN_FAILURE = "run_failure"


@dataclass
class Round:
    """One execution that a run asks for.

    Steps that are retried ask for another one, and so do those that a round has left out. A process
    that dies is replaced by another process of the run, within the round.

    Attributes:
        claims: Processes that are ready to execute, with their places in the log; the first of
            them that lives leads.
        started: Processes that have executed.
        left_out: ``fqn`` of models of the run that it does not deal with, although they have not
            succeeded: other steps still make what they read, or an earlier round dealt with them.
        planned: Batches that SQLMesh meant to evaluate and had not recorded before, by ``fqn``.
        outcomes: What became of the models, by ``fqn``.
        ended: Whether nothing follows.
        error: Why the execution gave up, where it did.
    """

    claims: dict[str, int] = field(default_factory=dict)
    started: set[str] = field(default_factory=set)
    left_out: frozenset[str] = frozenset()
    planned: dict[str, tuple[Interval, ...]] = field(default_factory=dict)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    ended: bool = False
    error: str | None = None

    def start(self, process: str, left_out: frozenset[str] | None) -> None:
        """Takes a process that executes, and the models that it does not deal with, if any."""
        self.started.add(process)
        if left_out is not None:
            self.left_out = left_out

    def end(self, error: str | None) -> None:
        """Ends the round, with the reason where its execution gave up."""
        self.ended, self.error = True, error

    @property
    def has_failures(self) -> bool:
        """Whether a model failed in it."""
        return any(outcome.status in FAILURES for outcome in self.outcomes.values())

    @property
    def failed_end(self) -> str | None:
        """Why the execution failed once every model had its outcome; ``None`` where it did not.

        Where the process that executed was killed there, nobody knows.
        """
        evaluated = {model for model, each in self.outcomes.items() if not each.is_alone}
        if not evaluated or not self.planned.keys() <= evaluated:
            return None
        if self.ended:
            return self.error
        return END_UNKNOWN if self.planned else None

    def leader(self, lives: Callable[[str], bool]) -> str | None:
        """The process that is to execute, if one of those that are ready lives."""
        ready = sorted(self.claims, key=self.claims.__getitem__)
        return next((process for process in ready if lives(process)), None)


@dataclass(frozen=True)
class RoundOver:
    """A round ended without an outcome for the model that was asked for.

    Attributes:
        error: Why, where the execution gave up.
    """

    error: str | None


class History:
    """The rounds of one run.

    Attributes:
        rounds: The rounds, in order.
        unusable: What the run's log holds that is no record of a ledger, in words.
    """

    def __init__(self) -> None:
        self.rounds: list[Round] = []
        self.unusable: list[str] = []

    def round(self, number: int) -> Round:
        """The round of a number, which counts from 1."""
        while len(self.rounds) < number:
            self.rounds.append(Round())
        return self.rounds[number - 1]

    @property
    def executions(self) -> int:
        """How many SQLMesh executions the run has started."""
        return sum(len(round_.started) for round_ in self.rounds)

    @property
    def outcomes(self) -> Mapping[str, Outcome]:
        """The last outcome of every model, by ``fqn``."""
        outcomes: dict[str, Outcome] = {}
        for round_ in self.rounds:
            outcomes.update(round_.outcomes)
        return outcomes

    def last(self, model: str) -> Outcome | None:
        """A model's last outcome, where it has one."""
        rounds = (round_ for round_ in reversed(self.rounds) if model in round_.outcomes)
        return next((round_.outcomes[model] for round_ in rounds), None)

    def find(self, model: str, after: int) -> Outcome | RoundOver | None:
        """What a step is to report, if it can be told already.

        Args:
            model: The model's ``fqn``.
            after: The round with which the step's last attempt failed, 0 for its first attempt.
        """
        last = self.last(model)
        if last is not None and last.succeeded:
            return last
        dealing = (
            round_ for round_ in reversed(self.rounds[after:]) if model not in round_.left_out
        )
        if (current := next(dealing, None)) is None:
            return None
        if model in current.outcomes:
            return current.outcomes[model]
        return RoundOver(current.error) if current.ended else None

    def last_round(self, model: str) -> int:
        """Number of the round that gave a model its last outcome."""
        return max(n for n, round_ in enumerate(self.rounds, 1) if model in round_.outcomes)

    def dealt_with(self, number: int, models: Set[str]) -> frozenset[str]:
        """Which of a run's models a round deals with."""
        earlier = {
            model
            for round_ in self.rounds[: number - 1]
            for model, outcome in round_.outcomes.items()
            if outcome.succeeded
        }
        return frozenset(models - earlier - self.round(number).left_out)

    @property
    def failed_end(self) -> str | None:
        """Why the run's last execution failed after its last model, where it did."""
        return self.rounds[-1].failed_end if self.rounds else None

    def run_event(self, number: int, models: Set[str], *, gave_up: bool) -> RunEvent | None:
        """What has come about of a run with the end of a round, as SQLMesh names it.

        A failure comes about once, with the first round that fails; the run's end once every
        model has succeeded and one was evaluated, as of ``sqlmesh run``.

        Args:
            number: The round's.
            models: ``fqn`` of all that the run selects.
            gave_up: Whether the round's execution gave up.
        """
        *earlier, current = self.rounds[:number]
        if gave_up or current.has_failures:
            failed_before = any(each.error is not None or each.has_failures for each in earlier)
            return None if failed_before else RunEvent.RUN_FAILURE
        outcomes = self.outcomes
        succeeded = all(model in outcomes and outcomes[model].succeeded for model in models)
        executed = any(each.status is OutcomeStatus.EXECUTED for each in outcomes.values())
        return RunEvent.RUN_END if succeeded and executed else None

    def wanted_round(self, model: str, after: int) -> int:
        """Number of the round that a step waits for whose outcome cannot be told yet."""
        last = self.rounds[-1] if self.rounds else Round()
        next_one = last.ended and model in last.left_out
        return max(len(self.rounds) + next_one, after + 1)

    def left(self, number: int, ready: Set[str], *, repeats: bool) -> list[str]:
        """The models that a round is to deal with.

        Args:
            number: The round's.
            ready: The models that it can deal with.
            repeats: Whether it is about those too that have not succeeded before.
        """
        earlier: dict[str, Outcome] = {}
        for round_ in self.rounds[: number - 1]:
            earlier.update(round_.outcomes)
        return [
            model
            for model in ready
            if model not in earlier or (repeats and not earlier[model].succeeded)
        ]

    def was_left_out(self, model: str, number: int) -> bool:
        """Whether a round is wanted because the one before has left a model out."""
        return number > 1 and model in self.round(number - 1).left_out
