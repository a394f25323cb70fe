"""Rounds of a run: who executes, which outcome a step reports, when it asks for another one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import dagster as dg
import pytest

from dagster_sqlmesh_automation.assets.ledger import ledger as ledger_module
from dagster_sqlmesh_automation.assets.ledger.history import (
    END_UNKNOWN,
    History,
    RoundOver,
    RunEvent,
)
from dagster_sqlmesh_automation.assets.ledger.ledger import Ledger, read_history
from dagster_sqlmesh_automation.assets.ledger.outcome import Outcome, OutcomeStatus
from dagster_sqlmesh_automation.assets.ledger.process import lives, this_process

EXECUTED = Outcome("a", "a", OutcomeStatus.EXECUTED)
FAILED = Outcome("a", "a", OutcomeStatus.FAILED, error="no")
SCOPE = "sqlmesh_prod"
SKIPPED = Outcome("a", "a", OutcomeStatus.SKIPPED)


def history(*rounds: Mapping[str, Outcome] | str | None) -> History:
    """Rounds with their outcomes; a text ends the last one with that error, ``None`` without."""
    made = History()
    for each in rounds:
        if isinstance(each, Mapping):
            made.round(len(made.rounds) + 1).outcomes.update(each)
        else:
            made.rounds[-1].ended, made.rounds[-1].error = True, each
    return made


def without(model: str, given: History, *numbers: int) -> History:
    """The same, with rounds that leave a model out."""
    for number in numbers:
        given.round(number).left_out = frozenset({model})
    return given


@pytest.mark.parametrize(
    ("given", "after", "found", "wanted"),
    [
        pytest.param(history(), 0, None, 1, id="nothing has begun"),
        pytest.param(history({}), 0, None, 1, id="a round goes on"),
        pytest.param(history({"a": EXECUTED}), 0, EXECUTED, 1, id="executed"),
        pytest.param(history({"a": FAILED}), 0, FAILED, 1, id="failed"),
        pytest.param(history({"a": FAILED}), 1, None, 2, id="failed: a retry asks for a round"),
        pytest.param(history({"a": EXECUTED}), 1, EXECUTED, 2, id="succeeded: a retry takes it"),
        pytest.param(history({"a": FAILED}, {}), 1, None, 2, id="a retry waits for the next round"),
        pytest.param(
            history({"a": SKIPPED}, {}), 0, None, 2, id="skipped before: waits for the next round"
        ),
        pytest.param(
            history({"a": SKIPPED}, {"a": EXECUTED}), 0, EXECUTED, 2, id="executed after all"
        ),
        pytest.param(history({}, "gone"), 0, RoundOver("gone"), 1, id="gave up"),
        pytest.param(history({}, None), 0, RoundOver(None), 1, id="without an outcome"),
        pytest.param(history({}, "gone"), 1, None, 2, id="gave up: a retry asks for a round"),
        pytest.param(history({"a": EXECUTED}, "gone"), 0, EXECUTED, 1, id="executed, then gave up"),
        pytest.param(
            without("a", history({}), 1), 0, None, 1, id="a round leaves it out: waits for its end"
        ),
        pytest.param(
            without("a", history({}, None), 1), 0, None, 2, id="left out: asks for a further round"
        ),
        pytest.param(
            without("a", history({}, "gone"), 1), 0, None, 2, id="left out: not its error"
        ),
        pytest.param(
            without("a", history({}, None, {}), 1), 0, None, 2, id="left out: the next one goes on"
        ),
        pytest.param(
            without("a", history({"a": FAILED}, None, {}, None), 2),
            0,
            FAILED,
            3,
            id="failed before others were ready",
        ),
        pytest.param(
            without("a", history({"a": FAILED}, None, {}, None), 2),
            1,
            None,
            3,
            id="failed before others were ready: a retry asks for a round",
        ),
    ],
)
def test_what_a_step_reports(
    given: History, after: int, found: Outcome | RoundOver | None, wanted: int
) -> None:
    assert given.find("a", after) == found
    assert given.wanted_round("a", after) == wanted


def test_a_further_round_deals_with_what_has_not_succeeded() -> None:
    b = Outcome("b", "b", OutcomeStatus.UP_TO_DATE)
    given = history({"a": FAILED, "b": b}, {"c": EXECUTED})

    def left(number: int, *, repeats: bool = True) -> set[str]:
        return set(given.left(number, {"a", "b", "c"}, repeats=repeats))

    assert left(1) == {"a", "b", "c"}
    assert left(2) == {"a", "c"}
    assert left(3) == {"a"}
    assert left(2, repeats=False) == {"c"}


# The ledger between processes


@pytest.fixture
def run(instance: dg.DagsterInstance) -> dg.DagsterRun:
    @dg.job
    def nothing() -> None:
        pass

    return instance.create_run_for_job(nothing)


def other(instance: dg.DagsterInstance, run: dg.DagsterRun, process: str) -> Ledger:
    """The run's ledger as another process sees it."""
    found = Ledger(instance, run, SCOPE)
    found.process = process
    return found


def test_every_process_reads_what_another_has_recorded(
    instance: dg.DagsterInstance, run: dg.DagsterRun
) -> None:
    mine, theirs = Ledger(instance, run, SCOPE), other(instance, run, "elsewhere:1:x")
    theirs.claim(1)
    theirs.started(1, 2)
    theirs.record(1, EXECUTED, None)
    mine.refresh()

    assert mine.leader(1) == "elsewhere:1:x"
    assert mine.find("a", 0) == EXECUTED
    assert mine.find("b", 0) is None
    theirs.ended(1, "the disk is full")
    mine.refresh()
    assert mine.find("b", 0) == RoundOver("the disk is full")
    assert read_history(instance, run.run_id, SCOPE).executions == 1


def test_environments_in_one_run_have_a_ledger_each(
    instance: dg.DagsterInstance, run: dg.DagsterRun
) -> None:
    mine, another = Ledger(instance, run, SCOPE), Ledger(instance, run, "sqlmesh_dev")
    another.process = "elsewhere:1:x"
    another.claim(1)
    another.record(1, EXECUTED, None)
    mine.refresh()
    assert mine.history.rounds == []
    assert read_history(instance, run.run_id, SCOPE).outcomes == {}
    assert read_history(instance, run.run_id, "sqlmesh_dev").outcomes == {"a": EXECUTED}


def test_the_first_claim_in_the_log_leads_for_all(
    instance: dg.DagsterInstance, run: dg.DagsterRun
) -> None:
    ledgers = [Ledger(instance, run, SCOPE), other(instance, run, "elsewhere:1:x")]
    for each in reversed(ledgers):
        each.claim(1)
    for each in ledgers:
        each.refresh()
    assert {each.leader(1) for each in ledgers} == {"elsewhere:1:x"}


def test_who_is_silent_for_long_leads_no_more(
    instance: dg.DagsterInstance, run: dg.DagsterRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, theirs = Ledger(instance, run, SCOPE), other(instance, run, "elsewhere:1:x")
    theirs.claim(1)
    mine.claim(1)
    mine.refresh()
    assert mine.leader(1) == "elsewhere:1:x"
    monkeypatch.setattr(ledger_module, "SILENT_SECONDS", 0.0)
    assert mine.leader(1) == mine.process
    monkeypatch.undo()
    theirs.say("still here")
    mine.refresh()
    assert mine.leader(1) == "elsewhere:1:x"


@contextmanager
def process() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Another process of this host, and its name."""
    code = (
        "from dagster_sqlmesh_automation.assets.ledger.process import this_process\n"
        "print(this_process(), flush=True)\ninput()"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, text=True) as made:
        assert made.stdout is not None
        yield made, made.stdout.readline().strip()
        made.kill()


def test_a_process_that_was_killed_leads_no_more(
    instance: dg.DagsterInstance, run: dg.DagsterRun
) -> None:
    mine = Ledger(instance, run, SCOPE)
    with process() as (made, name):
        other(instance, run, name).claim(1)
        mine.claim(1)
        mine.refresh()
        assert mine.leader(1) == name
        made.kill()
        os.waitid(os.P_PID, made.pid, os.WEXITED | os.WNOWAIT)  # dead, and still a zombie
        assert not lives(name)
        assert mine.leader(1) == mine.process
        made.wait()
        assert not lives(name)
    assert lives(this_process())
    assert lives("another-host:1:x")


def test_an_event_that_shows_up_late_behind_a_newer_one_is_read(
    run: dg.DagsterRun, instance: dg.DagsterInstance
) -> None:
    """PostgreSQL gives the id out first: the event of a slow transaction comes into sight late."""
    import sqlalchemy as db
    from dagster._core.storage.event_log.schema import SqlEventLogStorageTable as Events

    theirs, mine = other(instance, run, "elsewhere:1:x"), Ledger(instance, run, SCOPE)
    second = Outcome("b", "b", OutcomeStatus.EXECUTED)
    theirs.record(1, EXECUTED, None)
    theirs.record(1, second, None)
    storage = instance.event_log_storage
    with storage.run_connection(run.run_id) as connection:  # type: ignore[attr-defined]
        first, _ = connection.execute(
            db.select(Events).where(Events.c.run_id == run.run_id).order_by(Events.c.id)
        ).mappings()
        connection.execute(db.delete(Events).where(Events.c.id == first["id"]))
    mine.refresh()
    assert (mine.find("a", 0), mine.find("b", 0)) == (
        None,
        Outcome("b", "b", OutcomeStatus.EXECUTED),
    )
    with storage.run_connection(run.run_id) as connection:  # type: ignore[attr-defined]
        connection.execute(db.insert(Events).values(**first))
    mine.refresh()
    assert mine.find("a", 0) == EXECUTED


PLANNED = {"a": ()}


def planned(given: History, batches: Mapping[str, tuple[()]] = PLANNED) -> History:
    """The same, with batches that the last round means to evaluate."""
    given.rounds[-1].planned.update(batches)
    return given


@pytest.mark.parametrize(
    ("given", "failed"),
    [
        pytest.param(history(), None, id="nothing has begun"),
        pytest.param(planned(history({"a": EXECUTED}, None)), None, id="a good end"),
        pytest.param(planned(history({"a": EXECUTED}, "grants")), "grants", id="it failed"),
        pytest.param(planned(history({}, "refused")), None, id="before the first model"),
        pytest.param(
            planned(history({"a": EXECUTED}, "refused"), {"a": (), "b": ()}),
            None,
            id="between two models",
        ),
        pytest.param(planned(history({"a": EXECUTED})), END_UNKNOWN, id="killed at the end"),
        pytest.param(history({"a": EXECUTED}), None, id="killed with nothing evaluated"),
        pytest.param(
            planned(history({"a": FAILED}, "grants", {"a": EXECUTED}, None)),
            None,
            id="a later round comes to its end",
        ),
    ],
)
def test_an_end_failed_where_every_model_has_its_outcome(
    given: History, failed: str | None
) -> None:
    assert given.failed_end == failed


def test_a_round_deals_with_what_has_not_succeeded_and_is_not_left_out() -> None:
    given = without("c", history({"a": EXECUTED, "b": FAILED}, {"b": EXECUTED}), 1)

    assert given.dealt_with(1, {"a", "b", "c"}) == {"a", "b"}
    assert given.dealt_with(2, {"a", "b", "c"}) == {"b", "c"}
    assert [given.last_round(model) for model in "ab"] == [1, 2]


END, FAILURE = RunEvent.RUN_END, RunEvent.RUN_FAILURE
UP_TO_DATE = Outcome("a", "a", OutcomeStatus.UP_TO_DATE)


@pytest.mark.parametrize(
    ("given", "gave_up", "event"),
    [
        pytest.param(history({"a": EXECUTED, "b": EXECUTED}), False, END, id="all succeeded"),
        pytest.param(history({"a": UP_TO_DATE, "b": UP_TO_DATE}), False, None, id="nothing to do"),
        pytest.param(history({"a": EXECUTED, "b": FAILED}), False, FAILURE, id="a model failed"),
        pytest.param(history({"a": EXECUTED, "b": EXECUTED}), True, FAILURE, id="after_all failed"),
        pytest.param(history({"a": EXECUTED}), False, None, id="other rounds follow"),
        pytest.param(history({"a": EXECUTED}, {"b": EXECUTED}), False, END, id="the last round"),
        pytest.param(history({"a": FAILED}, {"b": EXECUTED}), False, None, id="failed before"),
        pytest.param(
            history({"a": FAILED}, {"b": FAILED}), False, None, id="told of a failure already"
        ),
        pytest.param(history({}, "refused", {}), True, None, id="gave up already"),
        pytest.param(
            history({"a": FAILED, "b": EXECUTED}, {"a": EXECUTED}), False, END, id="retried"
        ),
    ],
)
def test_targets_are_told_of_a_run_and_not_of_each_round(
    given: History, gave_up: bool, event: RunEvent | None
) -> None:
    assert given.run_event(len(given.rounds), {"a", "b"}, gave_up=gave_up) is event
