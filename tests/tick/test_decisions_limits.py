"""Decisions under limits: runs at once, and models in a run, over successive ticks."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings, strategies as st
from support.decisions import AT, DUE, Row, check, due, failed, moment

from dagster_sqlmesh_automation.assets.definitions.policy import Policy
from dagster_sqlmesh_automation.automation.facts.facts import DueState, Facts, Limits, Node
from dagster_sqlmesh_automation.automation.tick.decisions import decide

TWO = Limits(executions=4, models=2)
HAS_TWO = "this tick's run has its 2 models (SQLMESH_AUTOMATION_MAX_MODELS_PER_RUN)"
PAUSED = Policy(paused=True, origins={"paused": "MODELS sales.*"})

MODELS = [
    Row(
        "no limit",
        due("orders", "daily", "report", "weekly", "monitor", "other", "audit"),
        {"orders", "daily", "report", "weekly", "monitor", "other", "audit"},
    ),
    Row(
        "upstream ones first, the others with their reason",
        due("orders", "daily", "report", "other"),
        {"orders", "daily"},
        {"report": HAS_TWO, "other": HAS_TWO},
        limits=TWO,
    ),
    Row(
        "what reads a model that has no place waits for it",
        due("daily", "weekly", "monitor", "report", "audit"),
        {"daily", "report"},
        {
            "weekly": HAS_TWO,
            "monitor": f"upstream sales.weekly is held: {HAS_TWO}",
            "audit": HAS_TWO,
        },
        limits=TWO,
    ),
    Row("exactly as many", due("orders", "daily"), {"orders", "daily"}, limits=TWO),
    Row(
        "what is held takes no place",
        due("orders", "daily", "other", "weekly"),
        {"daily", "other"},
        {
            "orders": "paused by MODELS sales.*",
            "weekly": "upstream sales.orders is held: paused by MODELS sales.*",
        },
        policies={"orders": PAUSED, "daily": Policy(waits_for_upstream=False)},
        limits=TWO,
    ),
    Row(
        "nor does what is tried again later",
        due("daily", "weekly", "other"),
        {"weekly", "other"},
        {"daily": "failed in run run-1; attempt 2 of 3 at 2026-11-24 00:05 UTC"},
        failures={"daily": failed(moment("00:00"))},
        limits=TWO,
    ),
]

RUNS = [
    Row(
        "a model that has nothing to do with a long run gets a run of its own",
        due("orders", "other"),
        {"other"},
        {"orders": "run run-7 is evaluating sales.weekly, which reads it"},
        in_progress={"weekly": "run-7"},
        limits=Limits(executions=2),
    ),
    Row(
        "where one at once is the limit it waits",
        due("other"),
        set(),
        {"other": "run run-7 is in progress, and 1 at once is the limit"},
        in_progress={"weekly": "run-7"},
        limits=Limits(executions=1),
    ),
    Row(
        "however many models that run has",
        due("other"),
        {"other"},
        in_progress={"weekly": "run-7", "monitor": "run-7", "daily": "run-7"},
        limits=Limits(executions=2),
    ),
    Row(
        "the runs in progress are named",
        due("other"),
        set(),
        {"other": "run run-6, run-7 are in progress, and 2 at once is the limit"},
        in_progress={"weekly": "run-7", "daily": "run-6"},
        limits=Limits(executions=2),
    ),
    Row(
        "the run that is full, before the limit of models",
        due("report", "monitor", "other"),
        set(),
        {
            "report": "run run-7 is in progress, and 1 at once is the limit",
            "monitor": "run run-7 is in progress, and 1 at once is the limit",
            "other": "run run-7 is evaluating it",
        },
        in_progress={"other": "run-7"},
        limits=Limits(executions=1, models=2),
    ),
]


@pytest.mark.parametrize("row", [*MODELS, *RUNS], ids=lambda row: row.name)
def test_limits(row: Row) -> None:
    check(row)


@st.composite
def graphs(draw: st.DrawFn) -> list[Node]:
    """Models in topological order, each reading some of those before it."""
    nodes: list[Node] = []
    for n in range(draw(st.integers(1, 25))):
        earlier = [node.fqn for node in nodes]
        parents = draw(st.sets(st.sampled_from(earlier), max_size=3)) if earlier else set()
        nodes.append(Node(f"m{n}", f"shop.m{n}", tuple(sorted(parents)), "@hourly"))
    return nodes


def tick(
    nodes: Sequence[Node], missing: set[str], running: dict[str, str], limits: Limits
) -> list[str]:
    """What one tick requests."""
    state = DueState(AT, "plan-1", AT, {n.fqn for n in nodes}, dict.fromkeys(missing, DUE), {})
    decisions = decide(nodes, Facts(state, in_progress=running), limits)
    return [fqn for fqn, decision in decisions.items() if decision.requested]


@settings(max_examples=100, deadline=None)
@given(graphs(), st.data(), st.integers(0, 4), st.integers(1, 3))
def test_successive_ticks_evaluate_everything_once_in_dependency_order(
    nodes: list[Node], data: st.DataObject, models: int, executions: int
) -> None:
    """At each tick, time also passes: runs end, in any order."""
    names = [node.fqn for node in nodes]
    missing = set(data.draw(st.sets(st.sampled_from(names)), label="missing"))
    limits = Limits(executions=executions, models=models)
    parents = {node.fqn: node.parents for node in nodes}
    runs: dict[str, list[str]] = {}
    evaluated: list[str] = []
    started = 0

    def upstream(fqn: str) -> set[str]:
        return {fqn}.union(*(upstream(parent) for parent in parents[fqn]))

    first = set(missing)
    for number in range(10 * len(nodes) + 10):
        running = {fqn: run for run, covered in runs.items() for fqn in covered}
        requested = tick(nodes, missing, running, limits)
        if requested:
            started += 1
            runs[f"run-{number}"] = requested
        assert len(runs) <= executions
        assert not models or len(requested) <= models
        for fqn in requested:
            # Whatever is missing upstream is in the same run, and nobody evaluates it elsewhere.
            assert upstream(fqn) & missing <= set(requested)
            assert not upstream(fqn) & running.keys()
        assert runs or not missing, "nothing runs, and something is left"
        if runs:
            ended = data.draw(st.sampled_from(sorted(runs)), label="ended")
            evaluated += runs[ended]
            missing -= set(runs.pop(ended))
        if not missing and not runs:
            break
    assert sorted(evaluated) == sorted(first)
    if not models:
        assert started <= 1, "without a limit it is one run"


def test_without_a_limit_a_storm_is_one_run() -> None:
    nodes = [Node(f"m{n}", f"m{n}", (f"m{n - 1}",) if n % 5 else (), "@hourly") for n in range(500)]
    names = {node.fqn for node in nodes}
    assert len(tick(nodes, names, {}, Limits(executions=4))) == 500


def test_with_a_limit_it_is_as_few_runs_as_can_be() -> None:
    nodes = [Node(f"m{n}", f"m{n}", (f"m{n - 1}",) if n % 5 else (), "@hourly") for n in range(500)]
    missing, sizes = {node.fqn for node in nodes}, []
    while missing:
        requested = tick(nodes, missing, {}, Limits(executions=4, models=120))
        sizes.append(len(requested))
        missing -= set(requested)
    assert sizes == [120, 120, 120, 120, 20]
