"""SQLMesh stays near the steps that report its outcomes, and never waits for steps that do not."""

from __future__ import annotations

import threading

import pytest

from dagster_sqlmesh_automation.assets.execution import pace as module
from dagster_sqlmesh_automation.assets.execution.pace import Pace

AHEAD = 8


class Recording:
    """Records outcomes in a thread, as SQLMesh's side does."""

    def __init__(self, pace: Pace, count: int) -> None:
        self.done = 0
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._record, args=(pace, count), daemon=True)
        self._thread.start()

    def _record(self, pace: Pace, count: int) -> None:
        for _ in range(count):
            pace.recorded()
            with self._changed:
                self.done += 1
                self._changed.notify_all()

    def reaches(self, count: int, seconds: float = 20) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self.done >= count, seconds)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_IDLE_SECONDS", 3600)


@pytest.mark.usefixtures("patient")
def test_it_waits_until_a_step_has_taken_one() -> None:
    pace = Pace()
    recording = Recording(pace, AHEAD + 2)
    assert recording.reaches(AHEAD)
    assert not recording.reaches(AHEAD + 1, seconds=0.2)
    pace.taken()
    assert recording.reaches(AHEAD + 1)
    assert not recording.reaches(AHEAD + 2, seconds=0.2)


@pytest.mark.usefixtures("patient")
def test_it_goes_on_while_a_step_waits_for_an_outcome_that_is_not_there() -> None:
    pace = Pace()
    recording = Recording(pace, 5 * AHEAD)
    assert not recording.reaches(AHEAD + 1, seconds=0.2)
    with pace.waiting():
        assert recording.reaches(5 * AHEAD)


def test_it_goes_on_where_the_steps_are_at_something_else() -> None:
    assert Recording(Pace(), AHEAD + 1).reaches(AHEAD + 1)
