"""A signal that raises fails its own model: what reads it is held, everything else runs."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from support.outcome_helpers import (
    NEXT_DAY,
    RAW_DAYS,
    Count,
    Recorded,
    failure,
    recorded,
    said,
    small_project,
)
from support.ticks import Automation

SIGNALS = """\
from pathlib import Path
from sqlmesh import signal


@signal()
def loaded(batch, context):
    return answer("loaded", batch, context)


@signal()
def quiet(batch):
    return True


def answer(name, batch, context):
    file = Path("{folder}") / name
    names = {{"batch": batch, "context": context}}
    exec(file.read_text() if file.exists() else "answer = True", names)
    return names["answer"]
"""
FULL = "MODEL (name tiny.{name}, kind FULL, cron '@daily' {more}); SELECT {columns}"
RAISES = "raise ValueError('boom')"
SAYS = "signal loaded: ValueError: boom"


def full(name: str, columns: str = "1 AS x", more: str = "") -> dict[str, str]:
    return {f"models/{name}.sql": FULL.format(name=name, columns=columns, more=more)}


MODELS = {
    **full("held", more=", signals (quiet(), loaded())"),
    **full("reader", "x FROM tiny.held"),
    **full("last", "x FROM tiny.reader"),
    **full("other"),
    "audits/every.sql": (
        "AUDIT (name every_x, standalone true, cron '@daily'); "
        "SELECT x FROM tiny.last WHERE x IS NULL"
    ),
}


@pytest.fixture
def answers(tmp_path: Path) -> Path:
    """What the signals do, as Python, in a file by the signal's name."""
    folder = tmp_path / "answers"
    folder.mkdir()
    return folder


@pytest.fixture
def shop(tmp_path: Path, answers: Path, instance: dg.DagsterInstance) -> Automation:
    files = {"signals/__init__.py": SIGNALS.format(folder=answers), **MODELS}
    return Automation.of(small_project(tmp_path / "small", files, [RAW_DAYS]), instance)


ALL = [f"tiny/{name}" for name in ("held", "reader", "last", "other")]


def reasons(shop: Automation, at: datetime = NEXT_DAY) -> dict[str, str]:
    decisions = shop.location.planner.plan(shop.instance, at).decisions
    return {decision.name: decision.reason for decision in decisions.values()}


# Ticks


def test_a_tick_shows_the_model_as_failed_holds_what_reads_it_and_requests_all_others(
    shop: Automation, answers: Path, executions: Count
) -> None:
    (answers / "loaded").write_text(RAISES)

    tick, run = shop.tick_and_run(NEXT_DAY)

    held = f"held: upstream tiny.held failed: {SAYS}"
    assert {decision.name: decision.reason for decision in tick.plan.decisions.values()} == {
        "tiny.held": f"failed: {SAYS}",
        "tiny.reader": held,
        "tiny.last": held,
        "every_x": held,
        "tiny.other": "due: 2026-10-14 00:00 to 2026-10-15 00:00 UTC",
    }
    assert tick.requested == {"tiny/other"}
    line = f"tiny.held failed: {SAYS} (2026-10-14 00:00 to 2026-10-15 00:00 UTC)"
    assert line in list(tick.plan.lines())
    assert run is not None
    assert run.success
    assert recorded(run, "tiny/other") == Recorded("success", 1)
    assert executions() == 1


def test_it_is_not_requested_while_its_signal_raises_and_at_once_when_that_is_over(
    shop: Automation, answers: Path, executions: Count
) -> None:
    (answers / "loaded").write_text(RAISES)
    shop.tick_and_run(NEXT_DAY)

    for minute in range(1, 6):
        tick, run = shop.tick_and_run(NEXT_DAY + timedelta(minutes=minute))
        assert run is None
        assert tick.skip_message == (
            "3 of 4 models due and 1 standalone audit, all held: "
            f"tiny.held: failed: {SAYS} (and 3 more)"
        )
    assert executions() == 1
    (answers / "loaded").unlink()

    tick, run = shop.tick_and_run(NEXT_DAY + timedelta(minutes=6))

    assert tick.requested == {"tiny/held", "tiny/reader", "tiny/last"}
    assert run is not None
    assert run.success
    assert executions() == 2


NO_SUCH_DATABASE = "context.engine_adapter.execute('SELECT * FROM nowhere.at_all'); answer = True"


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ("answer = 'yes'", "SignalEvalError: Expected bool | list, got <class 'str'> for signal"),
        ("answer = None", "SignalEvalError: Expected bool | list, got <class 'NoneType'> "),
        ("answer = ['x']", "SignalEvalError: Unknown interval x for signal"),
        ("answer = tuple(batch)", "SignalEvalError: Expected bool | list, got <class 'tuple'> "),
        ("exit(3)", "SystemExit: 3"),
        ("import no_such_package", "ModuleNotFoundError: No module named 'no_such_package'"),
        (NO_SUCH_DATABASE, "CatalogException: Catalog Error: Table with name"),
        ("raise ConnectionError('refused')", "ConnectionError: refused"),
        ("raise ValueError('a' * 100_000)", "ValueError: …"),
    ],
)
def test_whatever_a_signal_raises_or_answers_is_its_models_failure(
    shop: Automation, answers: Path, answer: str, says: str
) -> None:
    (answers / "loaded").write_text(answer)

    told = reasons(shop)
    run = shop.run(ALL, NEXT_DAY)

    assert told["tiny.held"].startswith(f"failed: signal loaded: {says}")
    assert len(told["tiny.held"]) < 400
    assert told["tiny.other"].startswith("due: ")
    assert {outcome.name: outcome.status.value for outcome in run.outcomes.values()} == {
        "tiny.held": "failed",
        "tiny.reader": "skipped",
        "tiny.last": "skipped",
        "every_x": "skipped",
        "tiny.other": "executed",
    }
    outcome = run.by_name()["tiny.held"]
    assert (outcome.error or "").startswith(f"signal loaded: {says.rstrip(' …')}")
    assert outcome.unreachable == (answer == "raise ConnectionError('refused')")


# Runs


def test_a_run_fails_the_models_step_skips_what_reads_it_and_evaluates_all_others_in_one_execution(
    shop: Automation, answers: Path, executions: Count
) -> None:
    (answers / "loaded").write_text(RAISES)

    run = shop.run(ALL, NEXT_DAY)

    assert not run.success
    assert recorded(run, "tiny/held") == Recorded("failure")
    description, metadata = failure(run, "tiny/held")
    assert description == f"tiny.held failed in SQLMesh: {SAYS}"
    assert metadata["sqlmesh/outcome"] == "failed"
    assert metadata["sqlmesh/error"] == SAYS
    assert recorded(run, "tiny/reader") == Recorded("not started")
    assert recorded(run, "tiny/last") == Recorded("not started")
    skipped = {o.name: o.reason for o in run.outcomes.values() if o.status.value == "skipped"}
    assert skipped == dict.fromkeys(
        ("tiny.reader", "tiny.last", "every_x"), "upstream tiny.held failed"
    )
    assert recorded(run, "tiny/other") == Recorded("success", 1)
    assert executions() == 1


@pytest.mark.parametrize("assets", [["tiny/held"], ["tiny/last"], ["tiny/last", "tiny/other"]])
def test_what_a_run_does_not_select_fails_all_the_same_where_the_run_needs_it(
    shop: Automation, answers: Path, executions: Count, assets: list[str]
) -> None:
    (answers / "loaded").write_text(RAISES)

    run = shop.run(assets, NEXT_DAY)

    assert not run.success
    assert run.by_name()["tiny.held"].error == SAYS
    assert recorded(run, assets[0]) == Recorded("failure")
    if "tiny/other" in assets:
        assert recorded(run, "tiny/other") == Recorded("success", 1)
    assert executions() == 1


IN_A_RUN = "__import__('threading').current_thread().name.startswith('sqlmesh-')"


@pytest.mark.in_thread
def test_a_signal_that_raises_in_runs_alone_counts_attempts_with_the_usual_delays(
    shop: Automation, answers: Path, executions: Count
) -> None:
    (answers / "loaded").write_text(f"if {IN_A_RUN}:\n    {RAISES}\nanswer = True")
    runs = 0
    for minutes in (*range(0, 60, 5), 23 * 60):
        tick = shop.tick(NEXT_DAY + timedelta(minutes=minutes))
        if tick.run_requests:
            (request,) = tick.run_requests
            shop.execute(set(request.asset_selection or ()), request.tags, request.asset_check_keys)
            runs += 1

    assert runs == 3
    held = reasons(shop, NEXT_DAY + timedelta(hours=23))["tiny.held"]
    assert held.startswith("held: failed in run ")
    assert held.endswith("attempt 3 of 3; tried again at its next cron tick, 2026-10-16 00:00 UTC")


@pytest.mark.in_thread
def test_a_signal_that_raises_in_ticks_alone_leaves_a_run_by_hand_as_it_is(
    shop: Automation, answers: Path
) -> None:
    (answers / "loaded").write_text(f"if not {IN_A_RUN}:\n    {RAISES}\nanswer = True")
    assert reasons(shop)["tiny.held"] == f"failed: {SAYS}"

    run = shop.run(ALL, NEXT_DAY)

    assert run.success
    assert recorded(run, "tiny/held") == Recorded("success", 1)
    assert reasons(shop)["tiny.held"].startswith("up to date")


def test_it_fails_also_where_its_own_upstream_is_not_ready(
    tmp_path: Path, answers: Path, instance: dg.DagsterInstance
) -> None:
    gate = "\n\n@signal()\ndef gate(batch):\n    return answer('gate', batch, None)\n"
    files = {
        "signals/__init__.py": SIGNALS.format(folder=answers) + gate,
        **full("gated", more=", signals (gate())"),
        **full("held", "x FROM tiny.gated", ", signals (loaded())"),
    }
    shop = Automation.of(small_project(tmp_path / "small", files, [RAW_DAYS]), instance)
    (answers / "gate").write_text("answer = False")
    (answers / "loaded").write_text(RAISES)

    told = reasons(shop)
    run = shop.run(["tiny/gated", "tiny/held"], NEXT_DAY)

    assert told == {
        "tiny.gated": "not ready: signal gate holds it",
        "tiny.held": f"failed: {SAYS}",
    }
    assert said(run, "tiny__gated") == ["tiny.gated not ready: signal gate holds it"]
    assert run.by_name()["tiny.held"].error == SAYS
