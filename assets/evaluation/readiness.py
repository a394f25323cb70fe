"""SQLMesh's scheduler, in which a model whose readiness cannot be told stops no other.

SQLMesh works out what is ready in loops over all models. What one of them raises there, such as
its signal, ends the whole run, and would end the whole tick.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlmesh.core.scheduler import Scheduler
from sqlmesh.utils.errors import SignalEvalError, SQLMeshError

from ..ledger.outcome import error_message
from ..project.outages import is_outage
from ..project.snapshots import display_name
from ..sqlmesh_internals import guard_signals

if TYPE_CHECKING:
    from sqlmesh.core.snapshot import Snapshot

    from .console import SignalConsole


@dataclass(frozen=True, slots=True)
class ReadinessFailure:
    """Why nobody can tell whether a model is ready.

    Attributes:
        what: What was asked, such as ``signal loaded``.
        cause: What it raised.
    """

    what: str
    cause: BaseException

    def __str__(self) -> str:
        return f"{self.what}: {error_message(self.cause)}"

    @property
    def unreachable(self) -> bool:
        """Whether a server was out of reach that it asks."""
        return is_outage(self.cause)


class ReadinessScheduler(Scheduler):
    """SQLMesh's scheduler, which notes what a model's readiness raises and asks the others.

    A model that is in :attr:`unready` has to be left out of what is evaluated, with all that
    reads it. Its intervals are all that it misses, and SQLMesh takes none of them away from what
    reads it.

    Attributes:
        console: Tells which signals have been asked.
        unready: The failures, by ``fqn``.
        apart: What such models miss that SQLMesh cannot even ask for their signals.
    """

    console: SignalConsole
    unready: dict[str, ReadinessFailure]
    apart: dict[Snapshot, Any]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.unready, self.apart = {}, {}
        guard_signals(self, self._signal_raised)

    def merged_missing_intervals(self, *args: Any, **kwargs: Any) -> dict[Snapshot, Any]:
        """What misses intervals, without the models whose gateway the configuration lacks."""
        merged = super().merged_missing_intervals(*args, **kwargs)
        self.unready = {}
        for snapshot in merged:
            try:
                self.snapshot_evaluator.get_adapter(snapshot.model_gateway)
            except SQLMeshError as error:
                what = f"gateway {snapshot.model_gateway}"
                self.unready[snapshot.name] = ReadinessFailure(what, error)
        self.apart = {each: merged[each] for each in merged if each.name in self.unready}
        return {each: merged[each] for each in merged if each not in self.apart}

    def batch_intervals(self, merged_intervals: Any, *args: Any, **kwargs: Any) -> Any:
        """The batches, which are not to be evaluated as far as a model is unready upstream."""
        batches = super().batch_intervals(merged_intervals, *args, **kwargs)
        missed = {each: merged_intervals[each] for each in batches if each.name in self.unready}
        return {**batches, **missed, **self.apart}

    def _signal_raised(self, snapshot: Snapshot, error: BaseException) -> None:
        while isinstance(error, SignalEvalError) and error.__context__ is not None:
            error = error.__context__  # SQLMesh wraps what the function raised, twice
        what = self._raising(snapshot)
        self.unready[snapshot.name] = ReadinessFailure(what, error)

    def _raising(self, snapshot: Snapshot) -> str:
        """Names the signal that raised: SQLMesh asks one after the other."""
        names = dict.fromkeys(name for name, _ in snapshot.model.signals if name)
        asked = self.console.asked.get(snapshot.name)
        if asked is None and len(names) > 1:  # it could not even prepare them
            return f"signals {', '.join(names)}"
        return f"signal {next(name for name in names if name not in (asked or ()))}"


def take_empty_restatements(snapshots: Iterable[Snapshot], at: datetime) -> list[str]:
    """Takes crons for restatements that have no next tick, such as ``0 0 30 2 *``, from models.

    SQLMesh takes such a cron for valid, and ends at each run when it looks for that tick.

    Returns:
        A sentence for each model that had one. A restatement of what it reads restates it still.
    """
    sentences = []
    for snapshot in snapshots:
        if snapshot.is_model and (cron := snapshot.model.auto_restatement_cron):
            try:
                snapshot.model.auto_restatement_croniter(at).get_next(estimate=False)
            except ValueError as error:
                kind = snapshot.model.kind.copy(update={"auto_restatement_cron": None})
                snapshot.node = snapshot.model.copy(update={"kind": kind})
                sentences.append(
                    f"{display_name(snapshot)} is not restated: its auto_restatement_cron {cron!r} "
                    f"has no next tick ({error})"
                )
    return sentences
