"""What one tick knows before it decides: models, what is due, runs, limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from ...assets.definitions.policy import DEFAULT, Policy
from ...assets.intervals import Interval
from ...assets.ledger.outcome import Hashes
from ...config.sources import variable


@dataclass(frozen=True, slots=True)
class Node:
    """A model that SQLMesh evaluates, an audit or an external model, and what it reads.

    Attributes:
        fqn: SQLMesh's name of it.
        name: The name that a person knows it by.
        parents: ``fqn`` of what it reads, as far as this code location holds it.
        cron: Cron expression or alias; ``cron_tz`` is its zone, UTC when ``None``.
        is_audit: Whether it is a standalone audit.
        is_external: Whether it is an external model, of which SQLMesh evaluates the audits alone.
        policy: How it is automated.
    """

    fqn: str
    name: str
    parents: tuple[str, ...]
    cron: str
    cron_tz: str | None = None
    is_audit: bool = False
    is_external: bool = False
    policy: Policy = DEFAULT

    @property
    def is_evaluated(self) -> bool:
        """Returns whether SQLMesh evaluates it, so that it is an asset and no checks alone."""
        return not (self.is_audit or self.is_external)


@dataclass(frozen=True, slots=True)
class Due:
    """What SQLMesh would do with one model now.

    Attributes:
        intervals: What it would evaluate, as contiguous ranges; empty where it waits.
        waiting: What it waits for although its cron has elapsed, such as a signal.
        only_lookback: Whether SQLMesh has recorded all of the intervals before and would only
            repeat them. It does so at every run while a signal holds a newer one back.
        since: When SQLMesh first held the earliest of them due, aware; ``None`` where only an
            interval is due that has not ended yet, as of a model that allows partial ones.
        failed: Why SQLMesh cannot tell whether it is ready, such as what its signal raised. The
            intervals are all that it misses then.
        signal: The signal that it waits for; empty where it waits for none.
        signal_of: The model upstream that has this signal; empty where that is its own.
    """

    intervals: tuple[Interval, ...] = ()
    waiting: str = ""
    only_lookback: bool = False
    since: datetime | None = None
    failed: str = ""
    signal: str = ""
    signal_of: str = ""


@dataclass(frozen=True, slots=True)
class DueState:
    """SQLMesh's answer for one moment.

    Attributes:
        at: The moment, aware.
        plan_id: The plan that the environment is at.
        planned_at: When that plan was applied; ``None`` while it is being applied.
        models: ``fqn`` of everything that the environment holds.
        due: What SQLMesh would do with each model whose cron has elapsed, by ``fqn``.
        next_cron: When each model's cron elapses next and it may become due, by ``fqn``. Models
            that have ended, and seeds that have been read, are left out.
        starts: When models start that do so later, by ``fqn``.
        ended: The first moment no longer evaluated of models that have ended, by ``fqn``.
        altered: When SQLMesh last wrote each model's table, in milliseconds since 1970, by
            ``fqn``. Models that it has not written are left out.
        hashes: The hashes of every model and standalone audit but external tables, by ``fqn``.
        warnings: What SQLMesh cannot work with and was left out; a line each.
    """

    at: datetime
    plan_id: str
    planned_at: datetime | None
    models: Set[str]
    due: Mapping[str, Due]
    next_cron: Mapping[str, datetime]
    starts: Mapping[str, datetime] = field(default_factory=dict)
    ended: Mapping[str, datetime] = field(default_factory=dict)
    altered: Mapping[str, int] = field(default_factory=dict)
    hashes: Mapping[str, Hashes] = field(default_factory=dict)
    warnings: Sequence[str] = ()

    @property
    def unfinished(self) -> str:
        """Returns why SQLMesh would evaluate nothing at all; empty if it would.

        ``Context.run`` waits until the environment's plan is finalized.
        """
        return f"plan {self.plan_id} is being applied" if self.planned_at is None else ""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A run that should have evaluated a model, which is due nevertheless.

    Attributes:
        run_id: The Dagster run.
        at: The moment for which the run was done, aware.
        started: When the run started by the clock on the wall, aware. It differs from ``at`` for
            simulated runs alone.
        ended: When it ended, aware; for a simulated run the moment for which it was done.
        why: What became of the model, such as ``failed``.
        tried: Whether SQLMesh tried to evaluate the model; not so where a process died before or
            a database was out of reach.
        retried: Whether another attempt follows before the next cron tick; not so where a person
            has cancelled the run.
        evaluated: What SQLMesh evaluated in the run with success, as contiguous ranges.
    """

    run_id: str
    at: datetime
    started: datetime
    ended: datetime
    why: str
    tried: bool = True
    retried: bool = True
    evaluated: tuple[Interval, ...] = ()


@dataclass(frozen=True, slots=True)
class Facts:
    """What one tick knows.

    Attributes:
        state: What SQLMesh holds due.
        in_progress: Id of the run that covers a model, by ``fqn``.
        attempts: The last runs of a model after which it is due nevertheless, newest first, by
            ``fqn``; as far back as they may count.
        unautomated: ``fqn`` of the models whose assets have no automation condition.
        withheld: ``fqn`` of the models that a user's part of their condition holds, as far as
            that has been asked.
        requested_at: When each model with a least gap was last requested, by ``fqn``.
        evaluated_at: When a model was last evaluated, by ``fqn``; of those with a schedule and
            only a partial interval due.
        ended_at: When the last run of a due model ended, by ``fqn``; of those after the plan, and
            only where a limit can make a model wait for its turn.
        started_at: When a run in progress began, by its id; read only where several are allowed.
    """

    state: DueState
    in_progress: Mapping[str, str] = field(default_factory=dict)
    attempts: Mapping[str, Sequence[Attempt]] = field(default_factory=dict)
    requested_at: Mapping[str, datetime] = field(default_factory=dict)
    evaluated_at: Mapping[str, datetime] = field(default_factory=dict)
    ended_at: Mapping[str, datetime] = field(default_factory=dict)
    started_at: Mapping[str, datetime] = field(default_factory=dict)
    unautomated: Set[str] = frozenset()
    withheld: Set[str] = frozenset()

    def since(self, node: Node) -> datetime:
        """Since when a model is due: with partial intervals, since its last evaluation."""
        if (since := self.state.due[node.fqn].since) is not None:
            return since
        if (last := self.evaluated_at.get(node.fqn)) is not None:
            return last + timedelta(microseconds=1)
        return self.state.planned_at or self.state.at


@dataclass(frozen=True, slots=True)
class Limits:
    """What holds for a tick as a whole.

    Attributes:
        executions: How many runs may evaluate models at once.
        models: How many models one tick requests, unless one has to go with more; 0 for no limit.
        zone: IANA zone of the times in reasons.
        setting: Where the setting that limits the models stands, for reasons.
    """

    executions: int = 1
    models: int = 0
    zone: str = "UTC"
    setting: str = variable("max_models_per_run")


def spoken(moment: datetime) -> str:
    """A moment as messages show it; seconds only where there are some."""
    clock = "%H:%M:%S" if moment.second else "%H:%M"
    return f"{moment:%Y-%m-%d {clock}} {moment.tzname() or 'UTC'}"


def spoken_intervals(intervals: Sequence[Interval]) -> str:
    """Intervals as messages show them: the first few."""
    shown = [f"{start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC" for start, end in intervals[:3]]
    more = f" and {len(intervals) - 3} more" if len(intervals) > 3 else ""
    return ", ".join(shown) + more
