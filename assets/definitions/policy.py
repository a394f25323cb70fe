"""How each model is automated: the settings and rules that count for it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import Any

from ...config.cron import OFF, Schedule, canonical, split_schedule
from ...config.errors import SettingsError
from ...config.rules import BatchLimit, ModelRule, RetrySettings, Upstream
from ...config.settings import AutomationSettings
from ..project.manifest import Manifest, ManifestModel, ManifestStandaloneAudit

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
        limit: The longest that one batch of it may take; ``None`` for no limit.
        waits_for_upstream: Whether it waits while something upstream is due and not requested.
        priority: Dagster's priority of its step, and of the run; ``None`` where not set.
        group: Group of the asset, where a rule sets it.
        origins: Which setting or rule gave each value, by the value's name such as ``upstream``
            or ``retry.max_attempts``; defaults left out.
    """

    schedule: Schedule | None = None
    paused: bool = False
    retry: RetrySettings = _RETRY
    min_gap: timedelta = timedelta()
    limit: BatchLimit | None = None
    waits_for_upstream: bool = True
    priority: int | None = None
    group: str | None = None
    origins: Mapping[str, str] = field(default_factory=dict)

    def values(self) -> dict[str, str]:
        """Every value in words, by the key with which a rule sets it."""
        off = "off" if "schedule" in self.origins else "whenever it is due"
        return {
            "schedule": str(self.schedule or off),
            "paused": str(self.paused).lower(),
            **{f"retry.{key}": str(value) for key, value in self.retry},
            "min_gap_seconds": f"{self.min_gap.total_seconds():.0f}",
            "max_seconds": "none" if self.limit is None else f"{self.limit.seconds:.0f}",
            "upstream": "wait" if self.waits_for_upstream else "ignore",
            "priority": "none" if self.priority is None else str(self.priority),
            "group": self.group or "the translator's",
        }

    def spoken(self) -> list[str]:
        """What differs from the defaults, each with where it comes from."""
        values = self.values()
        return [f"{name} {values[name]} ({origin})" for name, origin in self.origins.items()]


DEFAULT = Policy()
"""Without any setting."""


def policies(settings: AutomationSettings, manifest: Manifest) -> dict[str, Policy]:
    """The policy of everything on which ticks decide, by ``fqn``.

    Raises:
        SettingsError: A pattern matches nothing, or a first delay is above the longest one.
    """
    everything: tuple[ManifestModel | ManifestStandaloneAudit, ...]
    everything = manifest.decided
    mapped = {canonical(cron): (cron, text) for cron, text in settings.cron_map.items()}
    matched = {
        pattern: {node.fqn for node in everything if matches(pattern, node)}
        for pattern in settings.models
    }
    if empty := [pattern for pattern, policies_by_fqn in matched.items() if not policies_by_fqn]:
        raise SettingsError(
            [
                f"{settings.place('models', pattern)} {unmatched(manifest, settings, pattern)}"
                for pattern in empty
            ]
        )
    plain = _policy(settings, {}, {})
    policies_by_fqn = {}
    for node in everything:
        values: dict[str, Any] = {}
        origins: dict[str, str] = {}
        if mapping := mapped.get(canonical(node.cron)) if mapped else None:
            values["schedule"], origins["schedule"] = mapping[1], f"CRON_MAP {mapping[0]}"
        for pattern, rule in settings.models.items():
            if node.fqn in matched[pattern]:
                rule_values = _rule_values(rule)
                values.update(rule_values)
                origins.update(dict.fromkeys(rule_values, f"MODELS {pattern}"))
        if node.is_external:
            # It is audited with what reads it. Only the retries are its own.
            values = {key: value for key, value in values.items() if key.startswith("retry.")}
            origins = {key: origin for key, origin in origins.items() if key in values}
        _check_delays(settings, node.name, values, origins)
        policies_by_fqn[node.fqn] = _policy(settings, values, origins) if values else plain
    return policies_by_fqn


def matches(pattern: str, node: ManifestModel | ManifestStandaloneAudit) -> bool:
    """Whether a pattern of ``MODELS`` means a model or standalone audit.

    Args:
        pattern: Over the name, with ``*``, ``?`` and ``[…]`` as in file names; or over a tag or
            the kind after ``tag:`` or ``kind:``. Upper and lower case are the same.
        node: The model or standalone audit.
    """
    selector, pattern_value = _selector(pattern)
    if not selector:
        return any(_like(name, pattern_value) for name in (node.name, node.fqn.replace('"', "")))
    if isinstance(node, ManifestStandaloneAudit):
        return False
    values = node.tags if selector == "tag" else (node.kind,)
    return any(_like(value, pattern_value) for value in values)


def _selector(pattern: str) -> tuple[str, str]:
    """What a pattern is over, empty for names; and the pattern itself, in lower case."""
    selector, colon, rest = pattern.strip().lower().partition(":")
    if colon and selector.strip() in SELECTORS:
        return selector.strip(), rest.strip()
    return "", pattern.strip().lower()


def _like(value: str, pattern: str) -> bool:
    return fnmatchcase(value.lower(), pattern)


def _rule_values(rule: ModelRule) -> dict[str, Any]:
    """What a rule sets; of retries each key for itself, as several rules may set different ones."""
    values = rule.values()
    retry = values.pop("retry", {})
    return {**values, **{f"retry.{key}": value for key, value in retry.items()}}


def _check_delays(
    settings: AutomationSettings, model: str, values: Mapping[str, Any], origins: Mapping[str, str]
) -> None:
    """Makes sure that no rule leaves a model a first delay above the longest one."""
    keys = ("delay_seconds", "max_delay_seconds")
    first, longest = (values.get(f"retry.{k}", getattr(settings.retry, k)) for k in keys)
    if first > longest:
        sources = [origins.get(f"retry.{key}", f"RETRY__{key.upper()}") for key in keys]
        raise SettingsError(
            [
                f"{settings.place('models')}: the retries of {model} cannot be used: its "
                f"delay_seconds {first} ({sources[0]}) is above its max_delay_seconds {longest} "
                f"({sources[1]}). Set both"
            ]
        )


def _policy(
    settings: AutomationSettings, values: Mapping[str, Any], origins: Mapping[str, str]
) -> Policy:
    schedule, paused = None, values.get("paused", False)
    if text := values.get("schedule"):
        cron, zone = split_schedule(text)
        if cron == OFF and not paused:
            # Whatever said that it is not paused does not count; the schedule does.
            paused, origins = True, {k: v for k, v in origins.items() if k != "paused"}
        schedule = None if cron == OFF else Schedule(cron, zone or settings.timezone)
    variables = {
        f"retry.{key}": f"RETRY__{key.upper()}"
        for key, value in settings.retry
        if value != getattr(_RETRY, key)
    }
    if settings.upstream is not Upstream.WAIT:
        variables["upstream"] = "UPSTREAM"
    upstream, longest = values.get("upstream", settings.upstream), values.get("max_seconds")
    return Policy(
        schedule=schedule,
        paused=paused,
        retry=RetrySettings(
            **{key: values.get(f"retry.{key}", value) for key, value in settings.retry}
        ),
        min_gap=timedelta(seconds=values.get("min_gap_seconds", 0)),
        limit=BatchLimit(longest, origins["max_seconds"]) if longest is not None else None,
        waits_for_upstream=upstream == Upstream.WAIT,
        priority=values.get("priority"),
        group=values.get("group"),
        origins={**variables, **origins},
    )


def unmatched(manifest: Manifest, settings: AutomationSettings, pattern: str) -> str:
    """That a pattern matches nothing, with what may have been meant."""
    selector, pattern_value = _selector(pattern)
    if selector == "tag":
        candidates = {tag for model in manifest.executed for tag in model.tags}
    elif selector == "kind":
        candidates = {model.kind for model in manifest.executed}
    else:
        candidates = {model.name for model in manifest.executed}
        candidates |= {audit.name for audit in manifest.standalone_audits}
    by_lower = {name.lower(): name for name in sorted(candidates)}
    close_names = difflib.get_close_matches(pattern_value, by_lower, n=1, cutoff=0.6)
    near = [f"{selector}:{by_lower[name]}" if selector else by_lower[name] for name in close_names]
    hint = f"Did you mean {near[0]}? " if near else ""
    return (
        f"matches no model of {settings.projects}. {hint}"
        "Accepted: names with * and ?, tag:<tag>, kind:<kind>; "
        "`sqlmesh-automation status` lists the models"
    )
