"""Limits make models wait for their turn, and none for ever: histories of many ticks, and rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import pairwise

import pytest
from support.decisions import AT, DAY, HOUR, MINUTE, failed, moment

from dagster_sqlmesh_automation.assets.definitions.policy import Policy
from dagster_sqlmesh_automation.automation.facts.facts import (
    Attempt,
    Due,
    DueState,
    Facts,
    Limits,
    Node,
)
from dagster_sqlmesh_automation.automation.tick.decisions import decide
from dagster_sqlmesh_automation.config.rules import RetrySettings

CRONS = {"*/5 * * * *": 5 * MINUTE, "@hourly": HOUR, "@daily": DAY}
QUICK = "*/5 * * * *"


def node(name: str, *parents: str, cron: str = QUICK, policy: Policy | None = None) -> Node:
    return Node(name, name, parents, cron, policy=policy or Policy())


@dataclass
class History:
    """Ticks every minute, and runs that take their time.

    Attributes:
        nodes: The models, upstream first.
        limits: What holds for every tick.
        lasts: How long a run takes that has a model, five minutes for the others; the longest
            of its models counts.
        fails: Models that always fail.
        partial: Models that are due at every moment.
        first: How long after the beginning some models are due first; all others at once.
    """

    nodes: Sequence[Node]
    limits: Limits
    lasts: Mapping[str, timedelta] = field(default_factory=dict)
    fails: frozenset[str] = frozenset()
    partial: frozenset[str] = frozenset()
    first: Mapping[str, timedelta] = field(default_factory=dict)
    evaluated: dict[str, list[datetime]] = field(default_factory=dict)
    sizes: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.until = {
            each.fqn: AT + self.first.get(each.fqn, CRONS[each.cron] - DAY) - CRONS[each.cron]
            for each in self.nodes
        }
        self.runs: dict[str, tuple[datetime, datetime, list[str]]] = {}
        self.ended_at: dict[str, datetime] = {}
        self.attempts: dict[str, list[Attempt]] = {}

    def lived(self, span: timedelta) -> History:
        """Lives through some time."""
        at = AT
        while at < AT + span:
            for run_id in [run_id for run_id, (_, ends, _) in self.runs.items() if ends <= at]:
                self._end(run_id)
            self._tick(at)
            at += MINUTE
        return self

    def longest_wait(self, name: str) -> timedelta:
        """The longest time between two evaluations of a model, or before the first."""
        moments = [AT, *self.evaluated.get(name, [])]
        moments.append(max(each for moments in self.evaluated.values() for each in moments))
        return max(b - a for a, b in pairwise(moments))

    def _tick(self, at: datetime) -> None:
        dues = {each.fqn: some for each in self.nodes if (some := self._due(each, at))}
        state = DueState(at, "plan-1", AT - 30 * DAY, set(self.until), dues, {})
        facts = Facts(
            state,
            in_progress={
                name: run_id for run_id, (*_, names) in self.runs.items() for name in names
            },
            attempts=self.attempts,
            ended_at=self.ended_at,
            started_at={run_id: started for run_id, (started, *_) in self.runs.items()},
        )
        decisions = decide(self.nodes, facts, self.limits)
        if names := [name for name, decision in decisions.items() if decision.requested]:
            self.sizes.append(len(names))
            lasts = max(self.lasts.get(name, 5 * MINUTE) for name in names)
            self.runs[f"run-{len(self.sizes)}"] = (at, at + lasts, names)

    def _due(self, node: Node, at: datetime) -> Due | None:
        first, period = self.until[node.fqn], CRONS[node.cron]
        if node.fqn in self.partial:
            return Due(((first, at),))
        ended = first + (at - first) // period * period
        return Due(((first, ended),), since=first + period) if ended > first else None

    def _end(self, run_id: str) -> None:
        started, ends, names = self.runs.pop(run_id)
        for name in names:
            self.ended_at[name] = ends
            if name in self.fails:
                self.attempts[name] = failed(ends)
                continue
            self.evaluated.setdefault(name, []).append(ends)
            if name in self.partial:
                continue
            period = CRONS[next(each.cron for each in self.nodes if each.fqn == name)]
            self.until[name] += (started - self.until[name]) // period * period


@dataclass
class Row:
    """A history, and the longest time that a model may wait in it.

    Attributes:
        name: What it is about.
        history: The models and limits.
        longest: What no model may wait longer than, but daily ones.
        largest: How many models the largest run has.
    """

    name: str
    history: History
    longest: timedelta
    largest: int


def of(models: int) -> Limits:
    """One run at once, of so many models."""
    return Limits(executions=1, models=models)


CHAIN = [node("a"), node("b", "a"), node("c", "b")]
OFTEN = Policy(retry=RetrySettings(max_attempts=99, delay_seconds=0))
URGENT = Policy(priority=9)
IGNORES = Policy(waits_for_upstream=False)
DAILY = [node(f"d{number}", cron="@daily") for number in range(30)]
TWO_AND_ONE = [node("a"), node("c"), node("b", "a", "c")]
LASTS = {"a": 7 * MINUTE, "c": 11 * MINUTE, "d": 7 * MINUTE, "e": 13 * MINUTE}

ROWS = [
    Row("a chain, one model a run", History(CHAIN, of(1)), HOUR, 3),
    Row("a chain, two models a run", History(CHAIN, of(2)), HOUR, 3),
    Row("models of their own", History([*map(node, "abcdef")], of(1)), HOUR, 1),
    Row(
        "the first ones are urgent",
        History([node("a", policy=URGENT), node("b", policy=URGENT), node("c")], of(1)),
        HOUR,
        1,
    ),
    Row(
        "upstream is left out",
        History([node("a"), node("b", "a", policy=IGNORES), node("c", "b")], of(1)),
        HOUR,
        2,
    ),
    Row(
        "one always fails, and is tried again at once",
        History([node("a", policy=OFTEN), node("b"), node("c")], of(1), fails=frozenset("a")),
        HOUR,
        1,
    ),
    Row(
        "one is due at every moment",
        History([node("a"), node("b", "a"), node("c")], of(1), partial=frozenset("a")),
        HOUR,
        2,
    ),
    Row(
        "a backlog while others come due",
        History([node("q"), node("r", "q"), *DAILY], of(3)),
        2 * HOUR,
        3,
    ),
    Row(
        "runs upstream relieve each other",
        History(
            [node("a"), node("c"), node("b", "a", "c", cron="@hourly")],
            Limits(executions=2),
            lasts={"a": 8 * MINUTE, "c": 8 * MINUTE},
            first={"b": HOUR, "c": 4 * MINUTE},
        ),
        1.5 * HOUR,
        3,
    ),
    Row(
        "runs downstream relieve each other",
        History(
            [
                node("b", cron="@hourly"),
                node("d", "b", policy=IGNORES),
                node("e", "b", policy=IGNORES),
            ],
            Limits(executions=2),
            lasts={"d": 8 * MINUTE, "e": 8 * MINUTE},
            first={"b": HOUR, "e": 4 * MINUTE},
        ),
        1.5 * HOUR,
        3,
    ),
    Row(
        "three runs at once, of one model each",
        History(
            [node("e"), *TWO_AND_ONE, node("d", "b", "e")],
            Limits(executions=3, models=1),
            lasts=LASTS,
        ),
        2 * HOUR,
        5,
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_no_model_waits_for_ever(row: Row) -> None:
    history = row.history.lived(6 * HOUR)
    waits = {
        each.fqn: history.longest_wait(each.fqn)
        for each in history.nodes
        if each.fqn not in history.fails and each.cron != "@daily"
    }
    assert {fqn: wait for fqn, wait in waits.items() if wait > row.longest} == {}
    assert {each.fqn for each in history.nodes} - history.evaluated.keys() == history.fails
    assert max(history.sizes) == row.largest


@dataclass
class Moment:
    """What is true at ten past twelve, and what is requested.

    Attributes:
        name: What it is about.
        since: Since when each model that is due is so.
        requested: What is requested.
        held: Why others are held.
        ended: When the last run of a model ended.
        runs: The model of each run in progress, by id; run-1 began at midnight, run-2 later.
        limits: Two runs at once unless it says otherwise.
        failures: The last runs of a model that failed.
        policies: Those that are not the default.
    """

    name: str
    since: dict[str, str]
    requested: set[str]
    held: dict[str, str] = field(default_factory=dict)
    ended: dict[str, str] = field(default_factory=dict)
    runs: dict[str, str] = field(default_factory=dict)
    limits: Limits = Limits(executions=2)  # noqa: RUF009
    failures: dict[str, list[Attempt]] = field(default_factory=dict)
    policies: dict[str, Policy] = field(default_factory=dict)


FIRST = "b has waited longer, and goes first"
HAS_ONE = "this tick's run has its 1 models (SQLMESH_AUTOMATION_MAX_MODELS_PER_RUN)"
WAITS = "upstream c is being evaluated by run "
AGAIN = {"a": "00:09", "b": "00:01", "c": "00:09"}

MOMENTS = [
    Moment(
        "the one that has waited longest goes first",
        {"a": "00:05", "d": "00:01"},
        {"d"},
        {"a": HAS_ONE},
        limits=of(1),
    ),
    Moment(
        "since its last run has ended",
        {"a": "00:05", "d": "00:01"},
        {"a"},
        {"d": HAS_ONE},
        ended={"d": "00:06"},
        limits=of(1),
    ),
    Moment(
        "upstream first, for what has waited longer",
        {"a": "00:09", "b": "00:01", "d": "00:05"},
        {"a"},
        {"b": HAS_ONE, "d": HAS_ONE},
        limits=of(1),
    ),
    Moment(
        "what has been evaluated meanwhile and is due again goes with it, beyond the limit",
        {"a": "00:09", "b": "00:01", "d": "00:05"},
        {"a", "b"},
        {"d": HAS_ONE},
        ended={"a": "00:08"},
        limits=of(1),
    ),
    Moment(
        "not if it failed meanwhile",
        {"a": "00:09", "b": "00:01", "d": "00:05"},
        {"a"},
        {"b": HAS_ONE, "d": HAS_ONE},
        ended={"a": "00:09"},
        failures={"a": failed(moment("00:09"), tried=False)},
        limits=of(1),
    ),
    Moment(
        "what would put off an overtaken model once more waits for it",
        AGAIN,
        set(),
        {"a": FIRST, "b": f"{WAITS}run-2", "c": "run run-2 is evaluating it"},
        ended={"a": "00:08"},
        runs={"c": "run-2"},
    ),
    Moment(
        "not while that waits for a run that began before it was due",
        AGAIN,
        {"a"},
        {"b": f"{WAITS}run-1", "c": "run run-1 is evaluating it"},
        ended={"a": "00:08"},
        runs={"c": "run-1"},
    ),
    Moment(
        "not if it has had no turn yet",
        AGAIN,
        {"a"},
        {"b": f"{WAITS}run-2", "c": "run run-2 is evaluating it"},
        runs={"c": "run-2"},
    ),
    Moment(
        "not if something else reads it that has waited longer still",
        {**AGAIN, "e": "00:00"},
        {"a", "e"},
        {"b": f"{WAITS}run-2", "c": "run run-2 is evaluating it"},
        ended={"a": "00:08"},
        runs={"c": "run-2"},
    ),
    Moment(
        "nor for one that could not go then",
        AGAIN,
        {"a"},
        {"b": "paused by a test", "c": "run run-2 is evaluating it"},
        ended={"a": "00:08"},
        runs={"c": "run-2"},
        policies={"b": Policy(paused=True, origins={"paused": "a test"})},
    ),
]


@pytest.mark.parametrize("row", MOMENTS, ids=lambda row: row.name)
def test_whose_turn_it_is(row: Moment) -> None:
    at = moment("00:10")
    nodes = [node("a"), node("c"), node("d"), node("b", "a", "c"), node("e", "a")]
    nodes = [replace(each, policy=row.policies.get(each.fqn, each.policy)) for each in nodes]
    interval = (at - DAY, at - HOUR)
    dues = {fqn: Due((interval,), since=moment(since)) for fqn, since in row.since.items()}
    facts = Facts(
        DueState(at, "plan-1", at - DAY, {each.fqn for each in nodes}, dues, {}),
        in_progress=row.runs,
        attempts=row.failures,
        ended_at={fqn: moment(ended) for fqn, ended in row.ended.items()},
        started_at={"run-1": moment("00:00"), "run-2": moment("00:03")},
    )
    decisions = decide(nodes, facts, row.limits)
    assert {fqn: d.held for fqn, d in decisions.items() if d.is_due and d.held} == row.held
    assert {fqn for fqn, decision in decisions.items() if decision.requested} == row.requested
    beyond = {fqn: decision.beyond for fqn, decision in decisions.items() if decision.beyond}
    if row.limits.models and len(row.requested) > row.limits.models:
        assert beyond == {
            "b": "b goes with all that is due upstream of it, 2 models and more than "
            "SQLMESH_AUTOMATION_MAX_MODELS_PER_RUN=1: they are due again before runs of so few "
            "come to it"
        }
    else:
        assert beyond == {}
