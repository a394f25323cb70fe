"""The record of a run's executions and their outcomes, in Dagster's event log.

Every process of the run writes it and reads it alike, on whatever storage Dagster has. Its lines
are engine events, which a person reads in the run's log as live progress.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence, Set

import dagster as dg
from pydantic import TypeAdapter

from ..dagster_internals import EngineEventData
from ..intervals import Interval, interval_to_json
from .history import History, Round, RoundOver
from .outcome import Outcome
from .process import lives, this_process
from .run_log import SCOPE, RunLog, engine_metadata, events

_ROUND = "sqlmesh/round"
_PROCESS = "sqlmesh/process"
_CLAIMED = "sqlmesh/execution_claim"
_STARTED = "sqlmesh/execution_started"
_LEFT_OUT = "sqlmesh/execution_left_out"
_PLANNED = "sqlmesh/execution_plan"
_OUTCOME = "sqlmesh/outcome_record"
_ENDED = "sqlmesh/execution_ended"

_MOST_ROUNDS = 10_000
"""More rounds than any run has; a number beyond that is not believed."""

_NAMES = TypeAdapter(frozenset[str])
_BATCHES = TypeAdapter(dict[str, tuple[Interval, ...]])
_END = TypeAdapter(dict[str, str | None])

SILENT_SECONDS = 60.0
"""A process that has written nothing for so long may be dead; the lease then tells for sure."""


class Ledger:
    """The ledger of one environment in one run, as one of the run's processes sees it.

    Thread-safe. What this process writes it knows at once; what others write, after
    :meth:`refresh`.

    Args:
        instance: The instance that keeps the run's events.
        run: The run.
        scope: The scope of the environment's :class:`.AssetIndex`. One run may hold models of
            several environments.
    """

    def __init__(self, instance: dg.DagsterInstance, run: dg.DagsterRun, scope: str) -> None:
        self._instance = instance
        self._run = run
        self._scope = scope
        self._log = RunLog(instance, run.run_id)
        self._changed = threading.Condition(threading.RLock())
        self._heard: dict[str, float] = {}
        self._written = time.monotonic()
        self.process = this_process()
        self.history = History()

    # Writing

    def claim(self, number: int) -> None:
        """Says that this process is ready to execute a round."""
        self._write(f"Process {self.process} is ready to run SQLMesh", number, _CLAIMED, "")

    def started(
        self,
        number: int,
        models: int,
        left_out: Set[str] = frozenset(),
        alone: int = 0,
        note: str = "",
    ) -> None:
        """Records that this process executes a round from here on, and what not.

        Args:
            number: The round's.
            models: How many models it evaluates.
            left_out: What of the run it does not deal with.
            alone: Of how many further models it only runs the audits.
            note: What else the run's log says of the start.
        """
        audits = f"{' and ' * bool(models)}the audits of {alone} alone" if alone else ""
        counted = "" if alone and not models else f"{models} model{'s' * (models != 1)}"
        message = f"SQLMesh execution of {counted}{audits} started"
        more = {}
        if left_out:
            message += f"; {len(left_out)} of the run wait for other steps or have failed before"
            more[_LEFT_OUT] = dg.MetadataValue.json(sorted(left_out))
        self._write(message + note, number, _STARTED, self.process, more=more)

    def planned(self, number: int, batches: Mapping[str, Sequence[Interval]]) -> None:
        """Records what SQLMesh is about to evaluate, so that a successor knows."""
        content = {
            model: [interval_to_json(interval) for interval in b] for model, b in batches.items()
        }
        count = sum(map(len, batches.values()))
        message = f"SQLMesh evaluates {len(batches)} models in {count} batches"
        self._write(message, number, _PLANNED, content)

    def record(self, number: int, outcome: Outcome, step: str | None) -> None:
        """Records a model's outcome, as one of its step's lines."""
        self._write(outcome.summary(), number, _OUTCOME, outcome.to_json(), step)

    def ended(self, number: int, error: str | None) -> None:
        """Records that a round has ended; nothing of it follows."""
        message = "SQLMesh execution ended" if error is None else f"SQLMesh gave up: {error}"
        try:
            self._write(message, number, _ENDED, {"error": error})
        finally:
            # Also where the log does not take it: steps of this process must not wait for ever.
            with self._changed:
                current = self.history.round(number)
                if not current.ended:
                    current.ended = True
                    current.error = error or "its end could not be written to the event log"
                self._changed.notify_all()

    def say(self, message: str, number: int | None = None) -> None:
        """Writes a line to the run's log."""
        self._write(message, number)

    def _write(
        self,
        message: str,
        number: int | None = None,
        kind: str | None = None,
        value: object = None,
        step: str | None = None,
        more: Mapping[str, dg.MetadataValue] | None = None,
    ) -> None:
        metadata: dict[str, dg.MetadataValue] = {
            _PROCESS: dg.MetadataValue.text(self.process),
            SCOPE: dg.MetadataValue.text(self._scope),
            **(more or {}),
        }
        if number is not None:
            metadata[_ROUND] = dg.MetadataValue.int(number)
        if kind is not None:
            is_text = isinstance(value, str)
            metadata[kind] = (
                dg.MetadataValue.text(str(value)) if is_text else dg.MetadataValue.json(value)  # type: ignore[arg-type]
            )
        self._instance.report_engine_event(
            message, self._run, EngineEventData(metadata=metadata), step_key=step
        )
        with self._changed:
            self._written = time.monotonic()
            if kind != _CLAIMED:  # whose order is the log's: refresh reads them all
                _fold(self.history, metadata)
            self._changed.notify_all()

    # Reading

    def refresh(self) -> None:
        """Reads what other processes of the run have written since the last time."""
        with self._changed:
            for place, event in self._log.news():
                metadata = engine_metadata(event, self._scope)
                if (process := metadata.get(_PROCESS)) is None:
                    continue
                if process.value != self.process or _CLAIMED in metadata:
                    self._heard[str(process.value)] = time.monotonic()
                    _fold(self.history, metadata, place)
            self._changed.notify_all()

    def wait(self, seconds: float) -> None:
        """Waits until this process has recorded something, at most for some seconds."""
        with self._changed:
            self._changed.wait(timeout=seconds)

    def find(self, model: str, after: int) -> Outcome | RoundOver | None:
        """As :meth:`.History.find`."""
        with self._changed:
            return self.history.find(model, after)

    def leader(self, number: int) -> str | None:
        """The process that is to execute a round, if one that is ready lives."""
        with self._changed:
            if number > len(self.history.rounds):
                return None
            return self.history.round(number).leader(self._lives)

    def outcome(self, model: str) -> Outcome | None:
        """A model's last outcome so far, where it has one."""
        with self._changed:
            return self.history.last(model)

    def outcomes(self) -> dict[str, Outcome]:
        """The last outcome of every model so far, by ``fqn``."""
        with self._changed:
            return dict(self.history.outcomes)

    def silent_seconds(self) -> float:
        """How long this process has written nothing."""
        with self._changed:
            return time.monotonic() - self._written

    def failed_round(self, model: str, step: str) -> int:
        """The round with which the last attempt of a step that is being retried failed."""
        settled = failed = 0
        types = {dg.DagsterEventType.ENGINE_EVENT, dg.DagsterEventType.STEP_UP_FOR_RETRY}
        for event in events(self._instance, self._run.run_id, types):
            if event.event_type is dg.DagsterEventType.STEP_UP_FOR_RETRY:
                failed = settled if event.step_key == step else failed
                continue
            history = History()
            _fold(history, engine_metadata(event, self._scope))
            if history.rounds and (history.rounds[-1].ended or history.last(model) is not None):
                settled = max(settled, len(history.rounds))
        return failed

    def _lives(self, process: str) -> bool:
        if process == self.process:
            return True
        heard = self._heard.get(process, time.monotonic())
        return lives(process) and time.monotonic() - heard < SILENT_SECONDS


def read_history(instance: dg.DagsterInstance, run_id: str, scope: str) -> History:
    """What the ledger of an environment in a run says now."""
    history = History()
    for place, event in enumerate(events(instance, run_id, {dg.DagsterEventType.ENGINE_EVENT})):
        _fold(history, engine_metadata(event, scope), place)
    return history


def has_step_workers(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Whether a run's steps have processes of their own."""
    starting = dg.DagsterEventType.STEP_WORKER_STARTING
    return bool(instance.get_records_for_run(run_id, of_type=starting, limit=1).records)


def _fold(history: History, metadata: Mapping[str, dg.MetadataValue], place: int = 0) -> None:
    """Adds one event to a history; adding it again changes nothing.

    An event that is not as this package writes it is left out and named in the history.
    """
    if _ROUND not in metadata:
        return
    try:
        number = int(metadata[_ROUND].value)  # type: ignore[arg-type]
        if not 1 <= number <= _MOST_ROUNDS:
            raise ValueError(f"there is no round {number}")
        change = _change(metadata, place)
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        history.unusable.append(f"event {place} of its ledger ({type(error).__name__}: {reason})")
        return
    change(history.round(number))


def _change(metadata: Mapping[str, dg.MetadataValue], place: int) -> Callable[[Round], object]:
    """What one event changes in its round; everything is read before anything is changed."""
    process = str(metadata[_PROCESS].value)
    if _CLAIMED in metadata:
        return lambda round_: round_.claims.setdefault(process, place)
    if _STARTED in metadata:
        left_out = metadata.get(_LEFT_OUT)
        models = None if left_out is None else _NAMES.validate_python(left_out.value)
        return lambda round_: round_.start(process, models)
    if (plan := metadata.get(_PLANNED)) is not None:
        batches = _BATCHES.validate_python(plan.value)
        return lambda round_: round_.planned.update(batches)
    if (record := metadata.get(_OUTCOME)) is not None:
        outcome = Outcome.from_json(record.value)
        return lambda round_: round_.outcomes.update({outcome.model: outcome})
    if (end := metadata.get(_ENDED)) is not None:
        error = _END.validate_python(end.value)["error"]
        return lambda round_: round_.end(error)
    return lambda round_: None
