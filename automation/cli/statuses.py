"""What ``sqlmesh-automation status`` prints: every model, or those that patterns match."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ...assets.definitions.policy import matches, unmatched
from ...assets.definitions.translator import SQLMeshTranslator
from ...assets.project.manifest import ManifestModel, ManifestStandaloneAudit
from ...config.errors import PatternUnmatched
from ..tick.plan import TickPlan
from .explaining import Moments, following
from .mappings import misleading
from .rendering import decided, print_warnings
from .ticking import TickReport, tick_json

if TYPE_CHECKING:
    from ..definitions import Location

NARROW = 100
"""A table has at least so many columns; what is narrower, and a pipe, gets one line per model."""

_LEAST_DECISION = 40


@dataclass(frozen=True)
class Row:
    """One model in words.

    Attributes:
        facts: Its name, kind, cron and, where some model has one, its policy.
        decision: What a tick does with it.
    """

    facts: Sequence[str]
    decision: Text


def selected(location: Location, patterns: Sequence[str]) -> set[str]:
    """Returns the ``fqn`` of what patterns match; without any, of everything.

    Args:
        location: The environment.
        patterns: As those of ``MODELS``.

    Raises:
        PatternUnmatched: A pattern matches nothing.
    """
    nodes = location.manifest.decided
    found = {
        pattern: {node.fqn for node in nodes if matches(pattern, node)} for pattern in patterns
    }
    for pattern, fqns in found.items():
        if not fqns:
            why = unmatched(location.manifest, location.settings, pattern)
            raise PatternUnmatched(pattern, why)
    return set().union(*found.values()) if found else {node.fqn for node in nodes}


def print_status(
    console: Console, location: Location, plan: TickPlan, shown: Collection[str]
) -> None:
    """Prints the decisions as a table, or one line for each where there is no room for one.

    Args:
        console: Where to.
        location: The environment.
        plan: The decisions.
        shown: The ``fqn`` of what is shown.
    """
    has_rules = any(policy.origins for policy in location.policies.values())
    rows = [
        _row(location, plan, node, has_rules)
        for node in location.manifest.decided
        if node.fqn in shown
    ]
    widths = [max(map(len, column)) for column in zip(*(row.facts for row in rows), strict=True)]
    console.print(Text(plan.title, style="italic"), soft_wrap=True)
    # The policy may fold.
    least = sum(widths[:3]) + 2 * len(widths) + _LEAST_DECISION
    if console.is_terminal and console.width >= max(NARROW, least):
        console.print(_table(rows, has_rules))
    else:
        for row in rows:
            facts = (fact.ljust(width) for fact, width in zip(row.facts, widths, strict=True))
            console.print(Text("  ".join([*facts, ""])).append(row.decision), soft_wrap=True)
    misled = misleading(location.settings, location.manifest, location.policies)
    print_warnings(console, [*plan.warnings, *misled])


def status_json(location: Location, plan: TickPlan, shown: Collection[str]) -> dict[str, Any]:
    """Returns what ``sqlmesh-automation status --json`` prints: a tick that requested nothing.

    Each model also has what it is and how it is automated. ``policy`` is what differs from the
    defaults, and what set it; ``next`` is as in ``explain --json``, and ``next_at`` the first
    moment at which it may be requested, as far as that is known.
    """
    document = tick_json(location, TickReport.undone(plan))
    models = [
        {**model, **_facts_json(location, plan, node)}
        for model, node in zip(document["models"], location.manifest.told, strict=True)
        if node.fqn in shown
    ]
    return {
        **document,
        "models": models,
        "warnings": [
            *plan.warnings,
            *misleading(location.settings, location.manifest, location.policies),
        ],
    }


def _row(
    location: Location,
    plan: TickPlan,
    node: ManifestModel | ManifestStandaloneAudit,
    has_rules: bool,
) -> Row:
    kind = node.kind if isinstance(node, ManifestModel) else "standalone audit"
    cron = " ".join(filter(None, (node.cron, node.cron_tz)))
    policy = ", ".join(location.policies[node.fqn].spoken())
    facts = [node.name, kind, cron, *([policy] if has_rules else [])]
    return Row(facts, decided(plan.decisions[node.fqn]))


def _table(rows: Sequence[Row], has_rules: bool) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("model", "kind", "cron"):
        table.add_column(column, no_wrap=True)
    for column in (*(["policy"] if has_rules else []), "decision"):
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row.facts), row.decision)
    return table


def _facts_json(location: Location, plan: TickPlan, model: ManifestModel) -> dict[str, Any]:
    """Returns what a model is and how it is automated."""
    policy, decision = location.policies[model.fqn], plan.decisions[model.fqn]
    values = policy.values()
    moments = following(policy, decision, plan.state.at)
    return {
        "kind": model.kind,
        "cron": model.cron,
        "cron_tz": model.cron_tz or "UTC",
        "schedule": "off" if policy.paused else str(policy.schedule) if policy.schedule else None,
        # A translator of a code location's own is not known here.
        "group": policy.group or SQLMeshTranslator().get_group_name(model),
        "next": moments.to_json(),
        "next_at": _iso(_next_at(moments, is_due=decision.is_due, paused=policy.paused)),
        "policy": {
            name: {"value": values[name], "from": origin} for name, origin in policy.origins.items()
        },
    }


def _next_at(moments: Moments, *, is_due: bool, paused: bool) -> datetime | None:
    """Returns the first moment at which a model may be requested next."""
    if paused:
        return None
    if is_due and (waited := [at for at in (moments.retry, moments.schedule) if at]):
        return max(waited)
    return moments.request or moments.cron


def _iso(moment: datetime | None) -> str | None:
    return moment.astimezone(UTC).isoformat() if moment else None
