"""How each model is automated: the settings and rules that count for it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import Any

from ..config.cron import OFF, Schedule, canonical, split_schedule
from ..config.errors import SettingsError
from ..config.rules import RetrySettings, Upstream
from ..config.settings import AutomationSettings
from .manifest import Manifest, ManifestModel, ManifestStandaloneAudit

SELECTORS = ("tag", "kind")
"""What a pattern may be over other than names, as in ``tag:nightly``."""


_RETRY = RetrySettings()


@dataclass(frozen=True, slots=True)
class Policy:
    """How one model is automated.

    Attributes:
        schedule: When it may be requested; ``None`` for whenever SQLMesh holds it due.
        paused: Whether it is never requested by itself.
        retry: How often it is requested again after a failure.
        min_gap: Least time between two requests.
        waits_for_upstream: Whether it waits while something upstream is due and not requested.
        priority: Dagster's priority of its step, and of the run; ``None`` where not set.
        group: Group of the asset, where a rule sets it.
        origins: Which setting or rule gave each value, by the value's name; defaults left out.
    """

    schedule: Schedule | None = None
    paused: bool = False
    retry: RetrySettings = _RETRY
    min_gap: timedelta = timedelta()
    waits_for_upstream: bool = True
    priority: int | None = None
    group: str | None = None
    origins: Mapping[str, str] = field(default_factory=dict)

    def spoken(self) -> list[str]:
        """What differs from the defaults, each with where it comes from."""
        values = {
            "schedule": "off" if self.schedule is None else str(self.schedule),
            "paused": str(self.paused).lower(),
            "retry": f"{self.retry.max_attempts} attempts",
            "min_gap_seconds": f"{self.min_gap.total_seconds():.0f}",
            "upstream": "wait" if self.waits_for_upstream else "ignore",
            "priority": str(self.priority),
            "group": str(self.group),
        }
        return [f"{name} {values[name]} ({origin})" for name, origin in self.origins.items()]


DEFAULT = Policy()
"""Without any setting."""


def policies(settings: AutomationSettings, manifest: Manifest) -> dict[str, Policy]:
    """The policy of every model that SQLMesh evaluates and every standalone audit, by ``fqn``.

    Raises:
        SettingsError: A pattern matches nothing.
    """
    everything: tuple[ManifestModel | ManifestStandaloneAudit, ...]
    everything = (*manifest.executed, *manifest.standalone_audits)
    mapped = {canonical(cron): (cron, text) for cron, text in settings.cron_map.items()}
    matched = {
        pattern: {node.fqn for node in everything if matches(pattern, node)}
        for pattern in settings.models
    }
    if empty := [pattern for pattern, found in matched.items() if not found]:
        raise SettingsError([_unmatched(settings, manifest, pattern) for pattern in empty])
    plain = _policy(settings, {}, {})
    found = {}
    for node in everything:
        values: dict[str, Any] = {}
        origins: dict[str, str] = {}
        if mapping := mapped.get(canonical(node.cron)) if mapped else None:
            values["schedule"], origins["schedule"] = mapping[1], f"CRON_MAP {mapping[0]}"
        for pattern, rule in settings.models.items():
            if node.fqn in matched[pattern]:
                for name, value in rule.given().items():
                    merged = {**values.get(name, {}), **value} if name == "retry" else value
                    values[name], origins[name] = merged, f"MODELS {pattern}"
        found[node.fqn] = _policy(settings, values, origins) if values else plain
    return found


def matches(pattern: str, node: ManifestModel | ManifestStandaloneAudit) -> bool:
    """Whether a pattern of ``MODELS`` means a model or standalone audit.

    Args:
        pattern: Over the name, with ``*``, ``?`` and ``[…]`` as in file names; or over a tag or
            the kind after ``tag:`` or ``kind:``. Upper and lower case are the same.
        node: The model or standalone audit.
    """
    selector, colon, rest = pattern.partition(":")
    if not colon or selector.lower() not in SELECTORS:
        return any(_like(name, pattern) for name in (node.name, node.fqn.replace('"', "")))
    if isinstance(node, ManifestStandaloneAudit):
        return False
    values = node.tags if selector.lower() == "tag" else (node.kind,)
    return any(_like(value, rest.strip()) for value in values)


def _like(value: str, pattern: str) -> bool:
    return fnmatchcase(value.lower(), pattern.strip().lower())


def _policy(
    settings: AutomationSettings, values: Mapping[str, Any], origins: Mapping[str, str]
) -> Policy:
    schedule, paused = None, values.get("paused", False)
    if text := values.get("schedule"):
        cron, zone = split_schedule(text)
        paused = paused or cron == OFF
        schedule = None if cron == OFF else Schedule(cron, zone or settings.timezone)
    retry = {**settings.retry.model_dump(), **values.get("retry", {})}
    upstream = values.get("upstream", settings.upstream)
    given = {"UPSTREAM": settings.upstream is not Upstream.WAIT and "upstream" not in origins}
    return Policy(
        schedule=schedule,
        paused=paused,
        retry=RetrySettings(**retry),
        min_gap=timedelta(seconds=values.get("min_gap_seconds", 0)),
        waits_for_upstream=upstream == Upstream.WAIT,
        priority=values.get("priority"),
        group=values.get("group"),
        origins={
            **{name.lower(): name for name, differs in given.items() if differs},
            **origins,
        },
    )


def _unmatched(settings: AutomationSettings, manifest: Manifest, pattern: str) -> str:
    selector = pattern.partition(":")[0]
    if selector == "tag":
        known = sorted({f"tag:{tag}" for model in manifest.executed for tag in model.tags})
    elif selector == "kind":
        known = sorted({f"kind:{model.kind.lower()}" for model in manifest.executed})
    else:
        known = [model.name for model in manifest.executed]
    near = difflib.get_close_matches(pattern, known, n=1, cutoff=0.5)
    hint = f"Did you mean {near[0]}? " if near else ""
    return (
        f"{settings.variable('MODELS')}[{pattern!r}] matches no model of {settings.project}. {hint}"
        "Accepted: names with * and ?, tag:<tag>, kind:<kind>; "
        "`sqlmesh-automation status` lists the models"
    )
