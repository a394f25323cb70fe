"""Ticks report OpenTelemetry metrics here."""

from __future__ import annotations

import time
from collections import Counter
from types import TracebackType

from ...assets.execution.metrics import METER, attributes
from ...config.settings import AutomationSettings
from .decision import REASONS
from .plan import TickPlan

_duration = METER.create_histogram(
    "sqlmesh_automation.tick.duration",
    unit="s",
    description="Time that a tick took; Dagster gives it a minute.",
    explicit_bucket_boundaries_advisory=[0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60],
)
_due = METER.create_gauge(
    "sqlmesh_automation.models.due",
    unit="{model}",
    description="Models that SQLMesh would evaluate, at the last tick.",
)
_held = METER.create_gauge(
    "sqlmesh_automation.models.held",
    unit="{model}",
    description="Models that are due and not requested, at the last tick, by what holds them.",
)
_requested = METER.create_counter(
    "sqlmesh_automation.models.requested",
    unit="{model}",
    description="Models that ticks have requested.",
)


class TickMetrics:
    """Measures one tick, from ``with`` to its end.

    Args:
        settings: The SQLMesh environment.
    """

    def __init__(self, settings: AutomationSettings) -> None:
        self._attributes = attributes(settings)
        self._began = time.monotonic()

    def __enter__(self) -> TickMetrics:
        return self

    def planned(self, plan: TickPlan) -> None:
        """Reports what the tick has decided."""
        held = Counter(decision.held_by for decision in plan.due)
        _due.set(len(plan.due), self._attributes)
        for reason in REASONS:
            _held.set(held[reason], {**self._attributes, "reason": reason})
        _requested.add(len(plan.requested), self._attributes)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        failed = {} if kind is None else {"error.type": kind.__name__}
        _duration.record(time.monotonic() - self._began, {**self._attributes, **failed})
