"""The doctor's checks of the Dagster instance: daemons, sensor, executor, queue, storage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg

from ...assets.dagster_internals import InstigatorState, InstigatorTick, TickStatus
from ...assets.definitions.specs import ENVIRONMENT_TAG, location_tags
from ...assets.ledger.ledger import has_step_workers
from ..definitions import Location
from ..facts.facts import DueState
from ..upkeep.parts import lacking
from .findings import Finding, ago

_DAEMONS = {
    "SENSOR": "nothing is ticked",
    "QUEUED_RUN_COORDINATOR": "no queued run starts",
    "MONITORING": "runs that died stay in progress",
}
"""Maps the daemons that automation needs to what happens without them."""

_SILENT = timedelta(minutes=5)
"""A daemon writes a heartbeat every half minute; Dagster itself waits for half an hour."""

_START = "Start `dagster-daemon run` with this DAGSTER_HOME, or look at its log."


def deployment_findings(
    location: Location, instance: dg.DagsterInstance, now: datetime
) -> Iterator[Finding]:
    """Checks the instance that ``DAGSTER_HOME`` names.

    Args:
        location: The environment.
        instance: The instance.
        now: The current time by the wall clock, aware.
    """
    parts: dict[str, Callable[[], Iterator[Finding]]] = {
        "storage": lambda: _storage(instance),
        "daemons": lambda: _daemons(instance, now),
        "sensor": lambda: _sensor(location, instance, now),
        "executor": lambda: _executor(location, instance),
        "queue": lambda: _queue(location, instance),
    }
    for part, look in parts.items():
        try:
            yield from look()
        except NotImplementedError as error:
            yield Finding(f"{part}: not looked at, Dagster's storage has no {lacking(error)}")


def was_being_applied(
    location: Location, instance: dg.DagsterInstance, state: DueState, before: timedelta
) -> bool | None:
    """Returns whether the plan was already being applied some time ago.

    SQLMesh does not record when it began to apply a plan; skipped ticks name the plan.

    Args:
        location: The environment.
        instance: The instance that records the ticks.
        state: Which plan is being applied, and the current time.
        before: How long ago.

    Returns:
        ``None`` if there are no ticks from that time.
    """
    ticks = [
        tick
        for sensor in _sensor_states(location, instance)
        for tick in instance.get_ticks(
            sensor.instigator_origin_id,
            sensor.selector_id,
            before=(state.at - before).timestamp(),
            limit=20,
        )
    ]
    return any(state.unfinished in (tick.skip_reason or "") for tick in ticks) if ticks else None


def _sensor_states(location: Location, instance: dg.DagsterInstance) -> list[InstigatorState]:
    """Returns the states of the environment's sensor, one for each code location that had it."""
    states = instance.all_instigator_state()
    return [state for state in states if state.instigator_name == location.sensor.name]


def _storage(instance: dg.DagsterInstance) -> Iterator[Finding]:
    """Checks where events are stored."""
    kind = type(instance.event_log_storage).__name__.removesuffix("EventLogStorage")
    if "sqlite" in kind.lower():
        yield Finding(
            "storage: SQLite, whose file one process writes at a time",
            "Good for one machine and few runs; else use PostgreSQL as in deploy/dagster.yaml.",
        )
    else:
        yield Finding(f"storage: {kind}")


def _daemons(instance: dg.DagsterInstance, now: datetime) -> Iterator[Finding]:
    """Checks the heartbeats of the daemons that automation needs."""
    alive = []
    for kind, status in instance.get_daemon_statuses().items():
        if kind not in _DAEMONS or not status.required:
            continue
        name, without = kind.lower().replace("_", " "), _DAEMONS[kind]
        beat = status.last_heartbeat
        if beat is None:
            yield Finding(f"the {name} daemon has never run here: {without}", _START)
            continue
        age = now - datetime.fromtimestamp(beat.timestamp, tz=UTC)
        if age > _SILENT:
            yield Finding(
                f"the {name} daemon was last seen {ago(age)}: {without}", _START, exit_code=2
            )
        elif beat.errors:
            yield Finding(f"the {name} daemon reports: {beat.errors[0].message.strip()}", _START)
        else:
            alive.append(f"{name} {ago(age)}")
    if alive:
        yield Finding(f"daemons, last seen: {', '.join(alive)}")


def _sensor(location: Location, instance: dg.DagsterInstance, now: datetime) -> Iterator[Finding]:
    """Checks whether the sensor is on, and how its last ticks went."""
    name = location.sensor.name
    states = _sensor_states(location, instance)
    running = [state for state in states if state.is_running]
    if not states and location.settings.enabled:
        yield Finding(f"sensor {name} will be on when the code location loads")
    elif not running:
        yield Finding(
            f"sensor {name} is off: nothing is materialized by itself",
            "Switch it on under Automation in the UI, or set "
            f"{location.settings.place('enabled')}=true.",
        )
    for state in running:
        yield _ticks(location, instance, state, now)


def _ticks(
    location: Location, instance: dg.DagsterInstance, state: InstigatorState, now: datetime
) -> Finding:
    """Returns what the last ticks of a sensor that is on tell about it."""
    name = location.sensor.name
    latest = instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=20)
    ticks = [tick for tick in latest if tick.status is not TickStatus.STARTED]
    if not ticks:
        return Finding(f"sensor {name} is on and has not ticked yet")
    last = ticks[0]
    age = now - datetime.fromtimestamp(last.timestamp, tz=UTC)
    if last.status is TickStatus.FAILURE:
        count = next((n for n, tick in enumerate(ticks) if tick.status != last.status), len(ticks))
        failed = "its last tick" if count == 1 else f"its last {count} ticks"
        message = last.error.message.strip() if last.error else "no message"
        return Finding(
            f"sensor {name} is on; {failed} failed, {ago(age)}: {message}",
            "Read the tick's error under Automation in the UI; after a change of the settings or "
            "the project reload the code location.",
            exit_code=2,
        )
    text = f"sensor {name} is on; its last tick was {ago(age)}: {_spoken(last)}"
    if age > max(_SILENT, 10 * timedelta(seconds=location.settings.interval_seconds)):
        return Finding(text, f"It should tick more often. {_START}")
    return Finding(text)


def _spoken(tick: InstigatorTick) -> str:
    """Returns what a tick did, as a finding shows it."""
    if tick.run_ids:
        return f"requested run {', '.join(tick.run_ids)}"
    return f"skipped: {tick.skip_reason}" if tick.skip_reason else "nothing requested"


def _executor(location: Location, instance: dg.DagsterInstance) -> Iterator[Finding]:
    """Checks in which process the steps of the last run ran."""
    filters = dg.RunsFilter(tags=location_tags(location.settings))
    run = next(iter(instance.get_runs(filters, limit=1)), None)
    if run is not None and has_step_workers(instance, run.run_id):
        yield Finding(
            f"executor: every step of run {run.run_id} had a process of its own, which takes "
            "seconds to start",
            "Steps wait for one execution: give your Definitions "
            "executor=dagster_sqlmesh_automation.sqlmesh_executor, which runs models in one "
            "process and other runs as Dagster does.",
        )
    else:
        of = f"as in run {run.run_id}" if run else "unless your Definitions name another"
        yield Finding(f"executor: steps run in the run's process, {of}")


def _queue(location: Location, instance: dg.DagsterInstance) -> Iterator[Finding]:
    """Compares the queue's limits with the number of executions that the settings allow."""
    settings, has_lease = location.settings, location.manifest.has_lease
    executions = settings.max_concurrent_executions if has_lease else 1
    queue = instance.get_concurrency_config().run_queue_config
    limits = {} if queue is None else _limits(queue.tag_concurrency_limits, settings.environment)
    if queue is not None and queue.max_concurrent_runs >= 0:
        limits["max_concurrent_runs"] = queue.max_concurrent_runs
    if not has_lease and limits.get(ENVIRONMENT_TAG, 2) > 1:
        yield Finding(
            "queue: nothing keeps two runs of this environment apart",
            f"Set a limit of 1 for the tag {ENVIRONMENT_TAG} as in deploy/dagster.yaml.",
            exit_code=2,
        )
    narrow = {name: limit for name, limit in limits.items() if limit < executions}
    for name, limit in narrow.items():
        yield Finding(
            f"queue: the instance runs {limit} at once ({name}), and "
            f"{settings.place('max_concurrent_executions')} allows {executions}: "
            "runs will wait in the queue",
            "Make the two equal.",
        )
    if not narrow:
        limited = ", ".join(f"{name} {limit}" for name, limit in limits.items()) or "no limit"
        yield Finding(f"queue: {limited}, for {executions} executions at once")


def _limits(configured: object, environment: str) -> dict[str, int]:
    """Returns the limit for runs of an environment by their tag, if there is one."""
    assert isinstance(configured, list)
    limits = [
        int(entry["limit"])
        for entry in configured
        if entry["key"] == ENVIRONMENT_TAG
        and (not isinstance(entry.get("value"), str) or entry["value"] == environment)
    ]
    return {ENVIRONMENT_TAG: min(limits)} if limits else {}
