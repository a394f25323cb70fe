"""``sqlmesh-automation explain`` gathers here what is known of one model and its decision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from ...assets.definitions.policy import Policy
from ...assets.intervals import Record, interval_to_json
from ...assets.project.manifest import ManifestModel, ManifestStandaloneAudit
from ...config.errors import ModelNotEvaluated, ModelUnknown
from ..definitions import Location
from ..facts.past_runs import PastRun, past_runs
from ..tick.conditions import Part, parts
from ..tick.decision import Decision
from ..tick.plan import TickPlan

_RUNS = 5


@dataclass(frozen=True)
class Verdict:
    """Holds one part of a decision.

    Attributes:
        label: What has to hold.
        holds: Whether it holds; ``None`` if it was not looked at, because another part does not.
        reason: Why it holds or not; may be empty.
    """

    label: str
    holds: bool | None = None
    reason: str = ""


@dataclass(frozen=True)
class Moments:
    """Holds the moments at which something happens next; each is aware, or ``None`` if unknown.

    Attributes:
        cron: When the model's cron elapses.
        schedule: When its schedule fires.
        request: When its schedule fires after the cron has elapsed.
        retry: When its last failures no longer hold it.
    """

    cron: datetime | None
    schedule: datetime | None
    request: datetime | None
    retry: datetime | None

    def to_json(self) -> dict[str, str | None]:
        """Returns them by name, in ISO 8601."""
        return {
            "cron": _json(self.cron),
            "schedule": _json(self.schedule),
            "request": _json(self.request),
            "retry": _json(self.retry),
        }


@dataclass(frozen=True)
class Explanation:
    """Holds all that is known of one model at one moment.

    Attributes:
        model: The model or standalone audit.
        asset_key: The key of its asset; ``None`` for a standalone audit.
        policy: How it is automated.
        decision: What a tick decides.
        verdicts: The decision, part by part.
        recorded: Its SQLMesh snapshot, and the intervals that SQLMesh has recorded of it.
        upstream: The decision on each model that it reads, in one line, by name.
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
    recorded: tuple[str, Record] | None
    upstream: Mapping[str, str]
    runs: Sequence[PastRun]
    attempts: Mapping[str, int]
    next: Moments
    plan: TickPlan

    @property
    def kind(self) -> str:
        """Returns SQLMesh's kind of the model."""
        return self.model.kind if isinstance(self.model, ManifestModel) else "standalone audit"

    def to_json(self) -> dict[str, Any]:
        """Returns what ``sqlmesh-automation explain --json`` prints."""
        state = self.plan.state
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
                {"label": verdict.label, "holds": verdict.holds, "reason": verdict.reason}
                for verdict in self.verdicts
            ],
            **self._intervals_json(),
            "upstream": [{"model": name, "decision": line} for name, line in self.upstream.items()],
            "runs": [self._run_json(run) for run in self.runs],
            "starts": _json(self.decision.starts),
            "ended": _json(self.decision.ended),
            "next": self.next.to_json(),
            "plan": {"id": state.plan_id, "applied_at": _json(state.planned_at)},
        }

    def _intervals_json(self) -> dict[str, Any]:
        due, recorded = self.decision.due, self.recorded
        return {
            "due": due
            and {
                "intervals": [interval_to_json(interval) for interval in due.intervals],
                "since": _json(due.since),
                "waiting": due.waiting,
                "failed": due.failed,
            },
            "recorded": recorded
            and {
                "snapshot": recorded[0],
                "intervals": [interval_to_json(interval) for interval in recorded[1].ranges],
                "missing": [interval_to_json(interval) for interval in recorded[1].missing],
            },
        }

    def _run_json(self, run: PastRun) -> dict[str, Any]:
        return {
            "run_id": run.run_id,
            "at": run.at.isoformat(),
            "outcome": run.outcome.status.value if run.outcome else None,
            "text": run.text,
            "attempt": self.attempts.get(run.run_id),
        }


def explain(
    location: Location, instance: dg.DagsterInstance, name: str, at: datetime
) -> Explanation:
    """Reads all that is known of one model and writes nothing.

    Args:
        location: The environment.
        instance: Where runs are recorded.
        name: The model's or standalone audit's name, asset key or ``fqn``; case is ignored.
        at: The moment for which to decide, aware.

    Raises:
        ModelUnknown: No model or standalone audit has that name.
        ModelNotEvaluated: The model is embedded, or external and without audits.
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
        next=following(policy, decision, at),
        plan=plan,
    )


def find_model(location: Location, name: str) -> ManifestModel | ManifestStandaloneAudit:
    """Returns the model or standalone audit that a person names.

    Arguments and errors are those of :func:`explain`. A name, key or ``fqn`` with the same case
    wins over one that differs in case.
    """
    nodes: list[ManifestModel | ManifestStandaloneAudit]
    nodes = [*location.manifest.models, *location.manifest.standalone_audits]
    by_spelling: dict[str, ManifestModel | ManifestStandaloneAudit] = {}
    for node in nodes:
        key = location.index.keys.get(node.fqn)
        spellings = [node.name, node.fqn, node.fqn.replace('"', "")]
        for text in [*spellings, *([key.to_user_string()] if key else [])]:
            by_spelling.setdefault(text, node)
    by_lower = {text.lower(): node for text, node in reversed(by_spelling.items())}
    model = by_spelling.get(name.strip()) or by_lower.get(name.strip().lower())
    if model is None:
        raise ModelUnknown(name, [node.name for node in nodes], location.settings.projects)
    if model.fqn not in location.policies:
        assert isinstance(model, ManifestModel)
        readers = [node.name for node in nodes if model.fqn in node.depends_on]
        raise ModelNotEvaluated(model.name, model.kind, readers)
    return model


def _verdicts(
    model: ManifestModel | ManifestStandaloneAudit, policy: Policy, decision: Decision
) -> list[Verdict]:
    """Returns the decision's parts; one that was not looked at neither holds nor fails to."""
    due, *others, limits = parts(model, policy)
    looked_at = [due, *(others if decision.is_due else ())]
    if decision.requested or decision.limits:
        looked_at.append(limits)
    return [
        _verdict(part, decision) if part in looked_at else Verdict(part.label)
        for part in (due, *others, limits)
    ]


def _verdict(part: Part, decision: Decision) -> Verdict:
    holds, reason = part.look(decision)
    return Verdict(part.label, holds, str(reason or ""))


def _upstream(location: Location, plan: TickPlan, fqn: str) -> str:
    """Returns the decision on what a model reads, in one line."""
    if fqn in plan.decisions:
        decision = plan.decisions[fqn]
        return f"requested, {decision.reason}" if decision.requested else decision.reason
    model = location.manifest.by_fqn.get(fqn)
    if model is None:
        return "not in this project"
    return "made outside SQLMesh" if model.is_external else "embedded in what reads it"


def _attempts(plan: TickPlan, fqn: str) -> dict[str, int]:
    """Numbers the failed attempts in a row by run id; the oldest is 1."""
    tried = [attempt for attempt in plan.attempts.get(fqn, ()) if attempt.tried]
    return {attempt.run_id: number for number, attempt in enumerate(reversed(tried), start=1)}


def following(policy: Policy, decision: Decision, at: datetime) -> Moments:
    """Returns what happens next to a model after a moment."""
    cron, schedule = decision.next_cron, None if policy.paused else policy.schedule
    fires = schedule is not None and (cron is not None or decision.is_due)
    return Moments(
        cron=cron,
        schedule=schedule.opens(at) if schedule and fires else None,
        request=schedule.opens(cron) if schedule and cron else None,
        retry=decision.retry_at,
    )


def _json(moment: datetime | None) -> str | None:
    return moment.astimezone(UTC).isoformat() if moment else None
