"""SQLMesh's state, as an execution writes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sqlmesh.core.state_sync.base import DelegatingStateSync

from ..lease.server import ModelLease
from .in_flight import InFlight

if TYPE_CHECKING:
    from sqlmesh.core.snapshot.definition import SnapshotIntervals
    from sqlmesh.core.state_sync import StateSync


class LeasedState(DelegatingStateSync):
    """SQLMesh's state, in which intervals are recorded only while the lease is held."""

    def __init__(self, state: StateSync, lease: ModelLease, in_flight: InFlight) -> None:
        super().__init__(state)
        self._lease, self._in_flight = lease, in_flight

    def add_snapshots_intervals(self, snapshots_intervals: Sequence[SnapshotIntervals]) -> None:
        """Records intervals.

        Raises:
            LeaseLost: The lease is lost, so that somebody else may evaluate the same intervals.
        """
        self._in_flight.recording()
        self._lease.check()
        self.state_sync.add_snapshots_intervals(snapshots_intervals)
