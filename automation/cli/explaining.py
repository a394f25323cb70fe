"""All that is known of one model and of the decision on it: ``sqlmesh-automation explain``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from ...assets.definitions.policy import Policy
from ...assets.intervals import Interval, interval_to_json
from ...assets.project.manifest import ManifestModel, ManifestStandaloneAudit
from ...config.errors import ModelNotEvaluated, ModelUnknown
from ..definitions import Location
from ..facts.past_runs import PastRun, past_runs
from ..tick.conditions import parts
from ..tick.decisions import Decision
from ..tick.plan import TickPlan

_RUNS = 5


@dataclass(frozen=True)
class Verdict:
    """One part of a decision.

    Attributes:
        label: What has to hold.
        holds: Whether it does; ``None`` where it was not asked, as another part does not.
        reason: Why; may be empty.
    """

    label: str
    holds: bool | None = None
    reason: str = ""


@dataclass(frozen=True)
class Moments:
    """What happens next, each aware or ``None`` where nothing is known to.

    Attributes:
        cron: The model's cron elapses.
        schedule: Its schedule fires.
        request: Its schedule fires after the cron has elapsed.
        retry: Its last failures no longer hold it.
    """

    cron: datetime | None
    schedule: datetime | None
    request: datetime | None
    retry: datetime | None


@dataclass(frozen=True)
class Explanation:
    """All that is known of one model at one moment.

    Attributes:
        model: The model or standalone audit.
        asset_key: Its asset; ``None`` for a standalone audit.
        policy: How it is automated.
        decision: What a tick decides.
        verdicts: The same, part by part.
        recorded: Its SQLMesh snapshot, and the intervals that are recorded of it.
        upstream: What it reads, by name, each with its own decision in one line.
        runs: The last runs that were to evaluate it, newest first.
        attempts: Numbers of those runs that count as failed attempts, by run id.
        next: What happens next.
        plan: The whole tick's plan.
    """

    model: ManifestModel | ManifestStandaloneAudit
    asset_key: str | None
    policy: Policy
    decision: Decision
    verdicts: Sequence[Verdict]
    recorded: tuple[str, Sequence[Interval]] | None
    upstream: Mapping[str, str]
    runs: Sequence[PastRun]
    attempts: Mapping[str, int]
    next: Moments
    plan: TickPlan

    @property
    def kind(self) -> str:
        """SQLMesh's kind."""
        return self.model.kind if isinstance(self.model, ManifestModel) else "standalone audit"

    def to_json(self) -> dict[str, Any]:
        """As ``sqlmesh-automation explain --json`` prints it."""
        due, state = self.decision.due, self.plan.state
        return {
            "environment": self.plan.environment,
            "at": state.at.isoformat(),
            "model": self.model.name,
            "asset_key": self.asset_key,
            "kind": self.kind,
            "cron": self.model.cron,
            "cron_tz": self.model.cron_tz or "UTC",
            "policy": {
                name: {"value": value, "from": self.policy.origins.get(name, "default")}
                for name, value in self.policy.values().items()
            },
            "requested": self.decision.requested,
            "reason": self.decision.reason,
            "parts": [
                {"label": each.label, "holds": each.holds, "reason": each.reason}
                for each in self.verdicts
            ],
            "due": due
            and {
                "intervals": [interval_to_json(each) for each in due.intervals],
                "since": _json(due.since),
                "waiting": due.waiting,
            },
            "recorded": self.recorded
            and {
                "snapshot": self.recorded[0],
                "intervals": [interval_to_json(each) for each in self.recorded[1]],
            },
            "upstream": [{"model": name, "decision": said} for name, said in self.upstream.items()],
            "runs": [
                {
                    "run_id": run.run_id,
                    "at": run.at.isoformat(),
                    "outcome": run.outcome.status.value if run.outcome else None,
                    "text": run.text,
                    "attempt": self.attempts.get(run.run_id),
                }
                for run in self.runs
            ],
            "next": {
                "cron": _json(self.next.cron),
                "schedule": _json(self.next.schedule),
                "request": _json(self.next.request),
                "retry": _json(self.next.retry),
            },
            "plan": {"id": state.plan_id, "applied_at": _json(state.planned_at)},
        }


def explain(
    location: Location, instance: dg.DagsterInstance, name: str, at: datetime
) -> Explanation:
    """Reads all that is known of one model; writes nothing.

    Args:
        location: The environment.
        instance: Where runs are recorded.
        name: The model's or standalone audit's name, asset key or ``fqn``; upper and lower case
            are the same.
        at: The moment for which to decide, aware.

    Raises:
        ModelUnknown: There is none of that name.
        ModelNotEvaluated: It is external or embedded.
        AutomationError: As :meth:`.DueReader.read`.
    """
    model = find_model(location, name)
    plan = location.planner.plan(instance, at)
    policy, decision = location.policies[model.fqn], plan.decisions[model.fqn]
    key = location.index.keys.get(model.fqn)
    return Explanation(
        model=model,
        asset_key=key.to_user_string() if key else None,
        policy=policy,
        decision=decision,
        verdicts=_verdicts(model, policy, decision),
        recorded=location.planner.recorded(model.fqn),
        upstream={
            location.index.names.get(fqn, fqn): _upstream(location, plan, fqn)
            for fqn in model.depends_on
        },
        runs=past_runs(location.index, instance, model.fqn, _RUNS),
        attempts=_attempts(plan, model.fqn),
        next=_next(policy, decision, at),
        plan=plan,
    )


def find_model(location: Location, name: str) -> ManifestModel | ManifestStandaloneAudit:
    """The model or standalone audit that a person means; arguments and errors as :func:`explain`.

    A name, key or ``fqn`` that is spelled just so wins over one in other upper and lower case.
    """
    nodes: list[ManifestModel | ManifestStandaloneAudit]
    nodes = [*location.manifest.models, *location.manifest.standalone_audits]
    known: dict[str, ManifestModel | ManifestStandaloneAudit] = {}
    for node in nodes:
        key = location.index.keys.get(node.fqn)
        spellings = [node.name, node.fqn, node.fqn.replace('"', "")]
        for text in [*spellings, *([key.to_user_string()] if key else [])]:
            known.setdefault(text, node)
    by_lower = {text.lower(): node for text, node in reversed(known.items())}
    found = known.get(name.strip()) or by_lower.get(name.strip().lower())
    if found is None:
        raise ModelUnknown(name, [node.name for node in nodes], location.settings.project)
    if isinstance(found, ManifestModel) and not found.is_executed:
        readers = [node.name for node in nodes if found.fqn in node.depends_on]
        raise ModelNotEvaluated(found.name, found.kind, readers)
    return found


def _verdicts(
    model: ManifestModel | ManifestStandaloneAudit, policy: Policy, decision: Decision
) -> list[Verdict]:
    """The decision's parts; what was not asked is neither so nor not so."""
    due, *others, limits = parts(model, policy)
    asked = [due, *(others if decision.is_due else ())]
    if decision.requested or decision.limits:
        asked.append(limits)
    return [
        Verdict(part.label, *part.look(decision)) if part in asked else Verdict(part.label)
        for part in (due, *others, limits)
    ]


def _upstream(location: Location, plan: TickPlan, fqn: str) -> str:
    if fqn in plan.decisions:
        decision = plan.decisions[fqn]
        return f"requested, {decision.reason}" if decision.requested else decision.reason
    model = location.manifest.by_fqn.get(fqn)
    if model is None:
        return "not in this project"
    return "made outside SQLMesh" if model.is_external else "embedded in what reads it"


def _attempts(plan: TickPlan, fqn: str) -> dict[str, int]:
    """Numbers of the failed attempts in a row, oldest first, by run id."""
    planned_at = plan.state.planned_at
    tried = [
        each
        for each in plan.attempts.get(fqn, ())
        if each.tried and (planned_at is None or each.started >= planned_at)
    ]
    return {each.run_id: number for number, each in enumerate(reversed(tried), start=1)}


def _next(policy: Policy, decision: Decision, at: datetime) -> Moments:
    cron, schedule = decision.next_cron, None if policy.paused else policy.schedule
    return Moments(
        cron=cron,
        schedule=schedule.opens(at) if schedule else None,
        request=schedule.opens(cron) if schedule and cron else None,
        retry=decision.retry_at,
    )


def _json(moment: datetime | None) -> str | None:
    return moment.astimezone(UTC).isoformat() if moment else None
