"""The doctor checks that everything is in place for automation, and says what to do if it is not.

To add a check, write a function from :class:`Examined` to findings and name it in ``CHECKS``.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import time
import zoneinfo
from collections.abc import Callable, Collection, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg

from ...assets.dagster_internals import default_sensor_grpc_timeout
from ...assets.project.manifest_file import cure, manifest_path, not_kept
from ...assets.project.opening import import_sqlmesh
from ...config.cron import check_zone
from ...config.errors import AutomationError, Unavailable
from ...config.origins import origins
from ...config.redaction import redacted
from ...config.settings import AutomationSettings
from ..definitions import Location
from ..facts.facts import spoken
from ..tick.reasons import upstream_failed
from ..upkeep.drift import drift
from .deployment import deployment_findings, was_being_applied
from .findings import MOST_NAMES, Examined, Finding
from .home import dagster_instance
from .mappings import misleading
from .records import ahead, ends, unrecorded
from .versions import installed_versions, version_findings

_SLOW_PLAN = timedelta(hours=1)
"""The doctor warns of a plan that has been applied for longer."""


def examine(settings: AutomationSettings, arguments: Collection[str] = ()) -> Iterator[Finding]:
    """Checks step by step and ends at the first thing without which the rest makes no sense.

    Args:
        settings: The SQLMesh environment.
        arguments: Names of the settings that come from arguments.
    """
    yield _settings(settings, arguments)
    yield from version_findings(installed_versions())
    try:
        started = time.perf_counter()
        import_sqlmesh()
        location = Location(settings)
        yield Finding(
            f"project {settings.projects}: {len(location.manifest.executed)} models "
            f"(manifest {manifest_path(settings)})"
        )
        with dagster_instance() as instance:
            plan = location.planner.plan(instance, datetime.now(UTC))
            repository = location.definitions.get_repository_def()
            with dg.build_sensor_context(instance, repository_def=repository) as context:
                location.sensor.request(context, plan)
            seconds = time.perf_counter() - started
            for check in CHECKS:
                yield from check(Examined(location, instance, plan, seconds))
    except Unavailable as error:
        yield Finding(str(error), "Try again once it can be reached.", exit_code=3)
    except AutomationError as error:
        yield Finding(str(error), exit_code=2)


def _settings(settings: AutomationSettings, arguments: Collection[str]) -> Finding:
    """Lists the settings that differ from their defaults, with the source of each."""
    sources = origins(settings, arguments)
    values = settings.model_dump(mode="json", exclude_none=True)
    lines = [
        f"{name}={value if isinstance(value := values.get(name), str) else json.dumps(value)} "
        f"({origin})"
        for name, origin in sources.items()
    ]
    lines.append("all others have their defaults" if lines else "all have their defaults")
    return Finding(redacted(f"settings: {'; '.join(lines)}"))


def manifest_file(examined: Examined) -> Iterator[Finding]:
    """Tells if the manifest is of an earlier load, or cannot be kept for other processes."""
    settings = examined.location.settings
    if outdated := examined.location.manifest.outdated:
        what, _, remedy = outdated.rpartition(". Mend")
        yield Finding(what, f"Mend{remedy}", exit_code=2)
    if reason := not_kept(settings, examined.location.manifest):
        yield Finding(reason, cure(settings))


def environment(examined: Examined) -> Iterator[Finding]:
    """Tells which plan the SQLMesh environment is at, and warns of one that does not end."""
    plan, at = examined.plan, examined.plan.state.planned_at
    if at is not None:
        planned = f"planned at {spoken(at.astimezone(zoneinfo.ZoneInfo(plan.zone)))}"
        advice = ""
    else:
        planned, advice = _being_applied(examined)
    yield Finding(
        f"environment {plan.environment!r} is at plan {plan.state.plan_id}, {planned}; "
        f"{plan.counted} now",
        advice,
    )
    for line in plan.warnings:
        if line == examined.location.manifest.outdated:
            continue  # :func:`manifest_file` tells
        if line in plan.state.warnings:
            yield Finding(line, "Change the cron, or take it away, and plan.", exit_code=2)
            continue
        if any(line == decision.beyond for decision in plan.requested):
            yield Finding(line, "Raise it, or give what is upstream fewer intervals or a schedule.")
            continue
        yield Finding(line, "Models are decided without it; end or delete the run to be rid of it.")


def failed(examined: Examined) -> Iterator[Finding]:
    """Names the models that fail at every tick, before a run can try them."""
    decisions, plan = examined.plan.failed, examined.plan
    for decision in decisions[:MOST_NAMES]:
        held = upstream_failed(decision.name, decision.held)
        readers = sum(each.upstream == held == each.holding for each in plan.due)
        yield Finding(
            f"{decision.name} {decision.reason}; it is not requested while that is so, nor "
            f"{readers} due that read{'s' * (readers == 1)} it",
            "Mend what its signal asks or the signal itself, which is planned anew then. A run of "
            "the asset by hand shows whether it fails in runs as well.",
            exit_code=1,
        )
    if len(decisions) > MOST_NAMES:
        yield Finding(f"{len(decisions) - MOST_NAMES} more models fail so", exit_code=1)


def _being_applied(examined: Examined) -> tuple[str, str]:
    """Returns since when a plan is being applied, and the cure for one that does not end."""
    state = examined.plan.state
    held_earlier = was_being_applied(examined.location, examined.instance, state, _SLOW_PLAN)
    if held_earlier is False:
        return "which is being applied", ""
    since = "for more than an hour" if held_earlier else "no tick tells since when"
    return (
        f"which is being applied, {since}: nothing is requested before it ends",
        "If no `sqlmesh plan` is running any more, it was killed: run "
        f"`sqlmesh plan {examined.plan.environment}` again and let it end.",
    )


def tick_time(examined: Examined) -> Iterator[Finding]:
    """Compares the time that a tick takes with the time that Dagster gives it."""
    seconds, limit = examined.seconds, default_sensor_grpc_timeout()
    taken = (
        f"a tick takes {seconds:.1f} s, SQLMesh's start included, of the {limit} s that Dagster "
        "gives it"
    )
    if seconds < limit / 2:
        yield Finding(taken)
    else:
        yield Finding(
            taken,
            "Set DAGSTER_SENSOR_GRPC_TIMEOUT_SECONDS for the daemon and the code server to "
            f"{max(120, round(seconds * 4))}.",
            exit_code=2,
        )


def lease(examined: Examined) -> Iterator[Finding]:
    """Tells whether runs of the same models wait for each other."""
    manifest = examined.location.manifest
    state = f"SQLMesh's state on {manifest.state_engine}"
    if manifest.has_lease:
        yield Finding(f"lease: {state} makes runs of the same models wait for each other")
    else:
        yield Finding(
            f"lease: {state} has no locks that belong to a session, so runs are held apart by "
            "Dagster's queue alone, one at a time",
            "Keep the limit of 1 for the tag sqlmesh/environment as in deploy/dagster.yaml, or "
            "move SQLMesh's state to PostgreSQL.",
        )


def zones(examined: Examined) -> Iterator[Finding]:
    """Which time zones count, and whether this machine knows them."""
    manifest, settings = examined.location.manifest, examined.location.settings
    crons = sorted({node.cron_tz for node in manifest.decided if node.cron_tz})
    for name in crons:
        try:
            check_zone(name)
        except ValueError:
            yield Finding(
                f"the time zone {name} of a model's cron_tz is not in this machine's database",
                "Install the package tzdata here and wherever the code location runs.",
                exit_code=2,
            )
    has_package = any(importlib.metadata.distributions(name="tzdata"))
    folders = [folder for folder in zoneinfo.TZPATH if Path(folder).is_dir()]
    database = folders[0] if folders else "the package tzdata" if has_package else "nowhere"
    also = f", of models' crons {', '.join(crons)}" if crons else ""
    yield Finding(
        f"time zones: {settings.timezone} for messages and schedules that name none{also}; "
        f"database from {database}"
    )


def mappings(examined: Examined) -> Iterator[Finding]:
    """Names the schedules that mislead."""
    location = examined.location
    for text in misleading(location.settings, location.manifest, location.policies):
        yield Finding(text, "See `sqlmesh-automation status` for what each model goes by.")


def drifted(examined: Examined) -> Iterator[Finding]:
    """Names the models whose definitions are not what the environment holds."""
    location = examined.location
    for each in drift(location.manifest, examined.plan.state, location.settings).values():
        yield Finding(each.what, f"{each.cure[:1].upper()}{each.cure[1:]}.")


def databases(examined: Examined) -> Iterator[Finding]:
    """Warns of databases whose paths depend on the working directory."""
    if note := examined.location.planner.relative_note():
        facts, _, cure = note.partition(". Make it")
        yield Finding(
            f"{facts}: another process that works elsewhere looks for another database, and "
            "sqlmesh plan makes one there",
            f"Make it{cure}.",
        )


def deployment(examined: Examined) -> Iterator[Finding]:
    """Checks the Dagster instance, if ``DAGSTER_HOME`` names one."""
    if os.environ.get("DAGSTER_HOME"):
        yield from deployment_findings(examined.location, examined.instance, datetime.now(UTC))
    else:
        yield Finding(
            "DAGSTER_HOME is not set: runs of `tick` are not recorded, and the deployment's "
            "daemon, sensor and queue are not looked at",
            "Set it to the folder of your dagster.yaml.",
        )


CHECKS: tuple[Callable[[Examined], Iterator[Finding]], ...] = (
    manifest_file,
    environment,
    failed,
    tick_time,
    lease,
    zones,
    mappings,
    drifted,
    databases,
    ahead,
    unrecorded,
    ends,
    deployment,
)
