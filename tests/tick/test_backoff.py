"""How often a model is requested whose runs never end its being due, whatever they end with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import cast

import pytest
from hypothesis import given, settings, strategies as st

from dagster_sqlmesh_automation.assets.definitions.policy import Policy
from dagster_sqlmesh_automation.assets.intervals import Interval
from dagster_sqlmesh_automation.assets.ledger.outcome import AuditOutcome, Outcome, OutcomeStatus
from dagster_sqlmesh_automation.automation.facts.attempts import EndedRun, attempt_of
from dagster_sqlmesh_automation.automation.facts.facts import (
    Attempt,
    Due,
    DueState,
    Facts,
    Limits,
    Node,
)
from dagster_sqlmesh_automation.automation.tick.decision import Decision
from dagster_sqlmesh_automation.automation.tick.decisions import decide
from dagster_sqlmesh_automation.config.cron import next_tick
from dagster_sqlmesh_automation.config.rules import RetrySettings

START = datetime(2026, 11, 24, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
EVERY = timedelta(seconds=20)
"""How often the simulated sensor ticks."""

ALL_DUE, FRESH = "all that is due", "what was never evaluated and is not due"
STRANGE = [(START - n * 100 * DAY, START - (n * 100 - 1) * DAY) for n in (1, 2, 3)]
"""Intervals that are not due."""

UNTRIED = [timedelta(minutes=minutes) for minutes in (0, 1, 2, 4, 8, 16, 32)]
"""The pauses after runs that get nowhere, as far as they fit into an hour."""


@dataclass(frozen=True)
class End:
    """How a run ends for the model.

    Attributes:
        status: The outcome's; also one that is not known here. ``None`` if there is no outcome.
        evaluated: The outcome's intervals.
        cancelled: Whether Dagster says that the run was cancelled.
        unreachable: Whether the outcome says that a server was out of reach.
        lasts: How long the run takes.
    """

    status: str | None
    evaluated: str | tuple[Interval, ...] = ()
    cancelled: bool = False
    unreachable: bool = False
    lasts: timedelta = timedelta()


@dataclass
class Loop:
    """Ticks of one model that stays due: SQLMesh records nothing, whatever runs evaluate."""

    node: Node
    ends: Sequence[End]
    at: datetime = START
    attempts: list[Attempt] = field(default_factory=list)
    runs: list[datetime] = field(default_factory=list)
    running: tuple[datetime, End] | None = None

    def until(self, end: datetime) -> Loop:
        """Ticks on; each run takes the next of the ends, and all others the last one."""
        while self.at < end:
            if self.running and self.running[0] <= self.at:
                self._end_run(*self.running)
            if self.decision().requested:
                ending = self.ends[min(len(self.runs), len(self.ends) - 1)]
                self.runs.append(self.at)
                self.running = (self.at + ending.lasts, ending)
            self.at += EVERY
        return self

    def decision(self) -> Decision:
        """What a tick decides now."""
        running = {"m": "run"} if self.running else {}
        facts = Facts(self._state(), in_progress=running, attempts={"m": self.attempts})
        return decide([self.node], facts, Limits(executions=9))["m"]

    def _state(self) -> DueState:
        following = next_tick(self.node.cron, self.at)
        due = Due(((START - 30 * DAY, START),), since=START - DAY)
        return DueState(self.at, "plan", START - DAY, {"m"}, {"m": due}, {"m": following})

    def _end_run(self, ended: datetime, end: End) -> None:
        self.running = None
        outcome = None
        if end.status is not None:
            day = START - len(self.runs) * DAY
            evaluated = {
                ALL_DUE: self._state().due["m"].intervals,
                FRESH: ((day - 2000 * DAY, day - 1999 * DAY),),
            }
            outcome = Outcome(
                "m",
                "m",
                cast(OutcomeStatus, end.status),
                intervals=evaluated[end.evaluated]
                if isinstance(end.evaluated, str)
                else end.evaluated,
                unreachable=end.unreachable,
            )
        run = EndedRun(f"run-{len(self.runs)}", self.runs[-1], self.runs[-1], ended, end.cancelled)
        self.attempts.insert(0, attempt_of(run, outcome))


def most_in_an_hour(runs: Sequence[datetime]) -> int:
    return max((sum(start <= run < start + HOUR for run in runs) for start in runs), default=0)


def loop(cron: str, retry: RetrySettings, ends: Sequence[End]) -> Loop:
    return Loop(Node("m", "m", (), cron, policy=Policy(retry=retry)), ends)


ENDS = st.builds(
    End,
    status=st.none() | st.sampled_from([*OutcomeStatus, "melted"]),
    evaluated=st.just(ALL_DUE)
    | st.just(((START - 30 * DAY, START - 20 * DAY),))
    | st.lists(st.sampled_from(STRANGE), max_size=2).map(tuple),
    cancelled=st.booleans(),
    unreachable=st.booleans(),
    lasts=st.sampled_from([timedelta(seconds=n) for n in (0, 1, 30, 500)]),
)
RETRIES = st.builds(
    RetrySettings, max_attempts=st.integers(1, 4), delay_seconds=st.sampled_from([0, 60, 600])
)


def allowed_in_an_hour(retry: RetrySettings) -> int:
    """How many runs fit into an hour of one row, if whatever ends them is the worst for it.

    A failure that counts, and an evaluation of something else, begin the pauses of what is not
    tried anew.
    """
    failures = retry.max_attempts - 1
    pauses = [
        *(timedelta(seconds=retry.delay_seconds * 2**number) for number in range(failures)),
        *(timedelta(minutes=bool(number)) for number in range(len(STRANGE))),
        *(UNTRIED * (1 + failures + len(STRANGE))),
    ]
    ends = accumulate(sorted(pauses))
    return 1 + sum(end < HOUR for end in ends)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["@hourly", "@daily"]), RETRIES, st.lists(ENDS, min_size=1, max_size=12))
def test_no_sequence_of_ends_makes_more_runs_in_an_hour_than_the_back_off_allows(
    cron: str, retry: RetrySettings, ends: list[End]
) -> None:
    runs = loop(cron, retry, ends).until(START + 3 * HOUR).runs

    rows = 2 if cron == "@hourly" else 1  # that an hour may belong to
    assert most_in_an_hour(runs) <= rows * allowed_in_an_hour(retry)


@pytest.mark.parametrize(
    ("ends", "most"),
    [
        ("nothing", 7),
        ("failed", 3),
        ("unreachable", 7),
        ("nothing failed", 6),
        ("all-due", 1),
        ("nothing all-due", 2),
        ("fresh", 61),
        ("fresh nothing", 91),
    ],
)
def test_the_most_runs_in_an_hour(ends: str, most: int) -> None:
    known = {
        "nothing": End(None),
        "failed": End(OutcomeStatus.FAILED),
        "unreachable": End(OutcomeStatus.FAILED, unreachable=True),
        "all-due": End(OutcomeStatus.EXECUTED, ALL_DUE),
        "fresh": End(OutcomeStatus.EXECUTED, FRESH),
    }
    sequence = [known[end] for end in ends.split()] * 99
    runs = loop("@daily", RetrySettings(), sequence).until(START + HOUR).runs
    assert most_in_an_hour(runs) == most


@pytest.mark.parametrize("status", [None, *OutcomeStatus, "melted"])
@pytest.mark.parametrize(
    "evaluated", [(), tuple(STRANGE[:1]), ALL_DUE], ids=["none", "other", "all"]
)
def test_no_end_that_repeats_makes_a_run_at_every_tick(
    status: str | None, evaluated: str | tuple[Interval, ...]
) -> None:
    runs = loop("@daily", RetrySettings(), [End(status, evaluated)]).until(START + 3 * HOUR).runs

    held = {
        "executed": 1 if evaluated == ALL_DUE else 10,
        "failed": 3,
        "audit_failed": 3,
        "cancelled": 1,
    }
    assert len(runs) <= held.get(status or "", 10)


def test_what_gets_somewhere_is_not_held_up() -> None:
    """Such as a model whose signal releases one interval after the other."""
    node = Node("m", "m", (), "@daily")
    attempts: list[Attempt] = []
    for hour in range(12):
        at, interval = START + hour * HOUR / 12, (START + hour * HOUR, START + (hour + 1) * HOUR)
        state = DueState(
            at, "plan", START - DAY, {"m"}, {"m": Due((interval,), since=START - DAY)}, {}
        )
        assert decide([node], Facts(state, attempts={"m": attempts}), Limits())["m"].requested
        run = EndedRun(f"run-{hour}", at, at, at)
        outcome = Outcome("m", "m", OutcomeStatus.EXECUTED, intervals=(interval,))
        attempts.insert(0, attempt_of(run, outcome))


def test_the_audits_that_stopped_a_model_are_named() -> None:
    audits = (
        AuditOutcome("not_null", passed=False, blocking=True, count=2),
        AuditOutcome("unique", passed=True, blocking=True, count=0),
        AuditOutcome("fresh", passed=False, blocking=False, count=1),
    )
    outcome = Outcome("m", "m", OutcomeStatus.AUDIT_FAILED, audits=audits)
    run = EndedRun("run-1", START, START, START)
    assert attempt_of(run, outcome).why == "audit not_null failed"
    both = replace(outcome, audits=(*audits[:1], replace(audits[1], passed=False)))
    assert attempt_of(run, both).why == "audits not_null, unique failed"
    assert attempt_of(run, replace(outcome, audits=())).why == "audit failed"
