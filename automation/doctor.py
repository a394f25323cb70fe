"""Checks that everything is in place for automation, and says what to do where it is not."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version

import dagster as dg

from ..assets.manifest import manifest_path
from ..config.errors import AutomationError, Unavailable
from ..config.settings import AutomationSettings
from .definitions import Location
from .ticking import dagster_instance

_GRPC_SECONDS = 60
"""Dagster's limit for a sensor's evaluation (``DAGSTER_SENSOR_GRPC_TIMEOUT_SECONDS``)."""


@dataclass(frozen=True)
class Finding:
    """One thing that was checked.

    Attributes:
        text: What was found.
        cure: What to do about it; empty where nothing is to be done.
        exit_code: 0 where it is good or only advice, else as the CLI's exit codes.
    """

    text: str
    cure: str = ""
    exit_code: int = 0

    @property
    def good(self) -> bool:
        """Whether nothing has to be done."""
        return self.exit_code == 0


def examine(settings: AutomationSettings) -> Iterator[Finding]:
    """Checks step by step and ends at the first thing without which the rest makes no sense."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("dagster", "sqlmesh"))
    yield Finding(f"versions: {versions}")
    try:
        location = Location(settings)
        yield Finding(
            f"project {settings.project}: {len(location.manifest.executed)} models "
            f"(manifest {manifest_path(settings)})"
        )
        with dagster_instance() as instance:
            location.planner.plan(instance, datetime.now(UTC))  # the first one also imports SQLMesh
            started = time.perf_counter()
            plan = location.planner.plan(instance, datetime.now(UTC))
            yield _tick_time(time.perf_counter() - started)
            yield Finding(
                f"environment {plan.environment!r} is at plan {plan.state.plan_id}; "
                f"{plan.counted} now"
            )
            yield _sensor(location, instance)
    except Unavailable as error:
        yield Finding(str(error), "Try again once it can be reached.", exit_code=3)
    except AutomationError as error:
        yield Finding(str(error), exit_code=2)


def _tick_time(seconds: float) -> Finding:
    if seconds < _GRPC_SECONDS / 2:
        return Finding(
            f"a tick takes {seconds:.1f} s of the {_GRPC_SECONDS} s that Dagster gives it"
        )
    return Finding(
        f"a tick takes {seconds:.0f} s; Dagster gives it {_GRPC_SECONDS} s",
        "Set DAGSTER_SENSOR_GRPC_TIMEOUT_SECONDS for the daemon to a higher number.",
        exit_code=2,
    )


def _sensor(location: Location, instance: dg.DagsterInstance) -> Finding:
    if not os.environ.get("DAGSTER_HOME"):
        return Finding(
            "DAGSTER_HOME is not set: runs of `tick` are not recorded",
            "Set it to the folder of your dagster.yaml to see the deployment's runs here.",
        )
    states = [
        state
        for state in instance.all_instigator_state()
        if state.instigator_name == location.sensor.name
    ]
    if any(state.is_running for state in states):
        return Finding(f"sensor {location.sensor.name} is on")
    if not states and location.settings.enabled:
        return Finding(f"sensor {location.sensor.name} will be on when the code location loads")
    return Finding(
        f"sensor {location.sensor.name} is off: nothing is materialized by itself",
        "Switch it on under Automation in the UI, or set SQLMESH_AUTOMATION_ENABLED=true.",
    )
