"""OpenTelemetry metrics of executions.

Only the API is used: without an SDK that the deployment configures, nothing is measured.
"""

from __future__ import annotations

import time
from typing import Any

from opentelemetry import metrics

from ...config.settings import AutomationSettings
from ..ledger.outcome import Outcome

METER = metrics.get_meter("dagster_sqlmesh_automation")

_FLUSH_MILLISECONDS = 5_000
_LONG = [1, 5, 15, 60, 300, 900, 3600, 14400]

_lease_wait = METER.create_histogram(
    "sqlmesh_automation.lease.wait.duration",
    unit="s",
    description="Time from an execution's start until it may evaluate its models.",
    explicit_bucket_boundaries_advisory=_LONG,
)
_execution = METER.create_histogram(
    "sqlmesh_automation.execution.duration",
    unit="s",
    description="Time in which an execution evaluated models, the wait for the lease left out.",
    explicit_bucket_boundaries_advisory=_LONG,
)
_outcomes = METER.create_counter(
    "sqlmesh_automation.outcomes",
    unit="{model}",
    description="Models that executions have dealt with, by what became of them.",
)


def attributes(settings: AutomationSettings) -> dict[str, str]:
    """What tells the metrics of one environment from those of others."""
    labels = {"sqlmesh.environment": settings.environment}
    return {**labels, "sqlmesh.project": settings.name} if settings.name else labels


class ExecutionMetrics:
    """Measures one execution.

    Args:
        settings: The SQLMesh environment.
    """

    def __init__(self, settings: AutomationSettings) -> None:
        self._attributes = attributes(settings)
        self._began = time.monotonic()
        self._admitted: float | None = None

    def admitted(self) -> None:
        """It has the lease."""
        self._admitted = time.monotonic()
        _lease_wait.record(self._admitted - self._began, self._attributes)

    def finished(self, outcome: Outcome) -> None:
        """A model has its outcome."""
        _outcomes.add(1, {**self._attributes, "status": outcome.status.value})

    def ended(self, error: BaseException | None) -> None:
        """Nothing follows."""
        if self._admitted is not None:
            kind = {} if error is None else {"error.type": type(error).__name__}
            seconds = time.monotonic() - self._admitted
            _execution.record(seconds, {**self._attributes, **kind})
        # The processes of runs and steps end without what Python does at its exit, where an SDK
        # would send the rest.
        flush: Any = getattr(metrics.get_meter_provider(), "force_flush", None)
        if flush is not None:
            flush(_FLUSH_MILLISECONDS)
