"""SQLMesh plans that people ask for: what one would change, and restatements.

A restatement is a plan on what the environment holds: SQLMesh leaves the project's files out of it.
It keeps the intervals that it evaluates again in its state meanwhile, so that nothing is missing
where it breaks off; what had not come to its turn has the data of before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...config.errors import NothingRestated
from ...config.settings import AutomationSettings
from ..intervals import Interval, moment
from ..lease.waiting import Wait, database_lease
from ..project.failures import naming_failures
from ..project.opening import duckdb_files, load_project, open_context
from .selections import check_selections

if TYPE_CHECKING:
    from sqlmesh.core.context import Context
    from sqlmesh.core.plan import Plan


@dataclass(frozen=True)
class PlannedModel:
    """One model of a plan.

    Attributes:
        name: The name that a person writes.
        change: What becomes of it, such as ``added`` or ``modified, breaking``.
        intervals: What would be evaluated, as contiguous ranges.
    """

    name: str
    change: str
    intervals: Sequence[Interval]


def markdown(models: Sequence[PlannedModel]) -> str:
    """A table of the models of a plan."""
    rows = [
        f"| {model.name} | {model.change} | {spoken_ranges(model.intervals)} |" for model in models
    ]
    return "\n".join(["| model | change | evaluates |", "| --- | --- | --- |", *rows])


def spoken_ranges(intervals: Sequence[Interval]) -> str:
    """Ranges of time in words."""
    if not intervals:
        return "nothing"
    return ", ".join(
        f"{start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC" for start, end in intervals
    )


def preview(settings: AutomationSettings, wait: Wait, holder: str) -> list[PlannedModel]:
    """What a plan of the project's files would change in the environment. Writes nothing.

    Args:
        settings: The project and environment.
        wait: How to wait for DuckDB files.
        holder: Who opens them, in words.

    Raises:
        ConfigurationError: The project cannot be loaded.
        SQLMeshFailed: SQLMesh refuses to plan.
        Unavailable: A database stays locked or is out of reach.
    """
    with _opened(settings, wait, holder) as context:
        builder = context.plan_builder(settings.environment, skip_tests=True, skip_linter=True)
        plan = builder.build()
        evaluated = _evaluated(plan)
        diff = plan.context_diff
        changes: dict[str, str] = {}
        for s_id in diff.removed_snapshots:
            changes[s_id.name] = "removed"
        for s_id in diff.added:
            changes[s_id.name] = "added"
        for name, (new, _) in diff.modified_snapshots.items():
            how = (
                "modified" if diff.directly_modified(name)
                else "metadata only" if diff.metadata_updated(name)
                else "indirectly modified"
            )  # fmt: skip
            category = new.change_category
            kind = category.name.lower().replace("_", " ") if category is not None else ""
            changes[name] = ", ".join(filter(None, (how, kind if how != "metadata only" else "")))
        names = {snapshot.name: _name(plan, snapshot.name) for snapshot in diff.snapshots.values()}
        removed = {
            s_id.name: each.name.replace('"', "") for s_id, each in diff.removed_snapshots.items()
        }
        shown = [name for name in changes if name in removed]
        shown += [name for name in names if name in changes or evaluated.get(name)]
        return [
            PlannedModel(
                {**removed, **names}[name],
                changes.get(name, "unchanged"),
                evaluated.get(name, ()),
            )
            for name in shown
        ]


WITHDRAWN = "recorded before it ended, and taken off the record"
"""What becomes of a model's intervals that were recorded ahead of the clock."""


@dataclass(frozen=True, slots=True)
class Restatement:
    """What is to be evaluated again.

    Attributes:
        models: Names, patterns, or ``tag:…``, as SQLMesh's ``--restate-model`` takes them; what
            :func:`check_selections` refuses is not.
        start: Start of the data to evaluate again, as SQLMesh takes it: a date or ``3 days ago``.
        end: End of the data; ``None`` for now.
        dry_run: Whether nothing is evaluated and only the plan is returned.
    """

    models: Sequence[str]
    start: str
    end: str | None = None
    dry_run: bool = True


def restate(
    settings: AutomationSettings, restatement: Restatement, *, wait: Wait, run_id: str
) -> list[PlannedModel]:
    """Evaluates intervals of models again, and of what reads them.

    What they have recorded ahead of the clock is taken off SQLMesh's record, whatever the start
    and end: SQLMesh leaves it there, and would never evaluate the data that arrive for it.

    Args:
        settings: The project and environment.
        restatement: The models and their data.
        wait: How to wait for others that evaluate the same models; it also says what happens.
        run_id: The Dagster run, which is named to others that wait.

    Returns:
        What is evaluated of each model, in the order of their dependencies.

    Raises:
        SelectionRefused: The models are given by more than names, patterns and tags.
        NothingRestated: No model of the environment is selected.
        ConfigurationError: The project cannot be loaded.
        SQLMeshFailed: SQLMesh refuses the plan, or a model or an audit fails.
        Unavailable: A database or a lease stays taken, or is out of reach.
    """
    check_selections(restatement.models)
    with _opened(settings, wait, f"run {run_id}") as context:
        plan = context.plan_builder(
            settings.environment,
            restate_models=restatement.models,
            start=restatement.start,
            end=restatement.end,
            skip_tests=True,
            skip_linter=True,
        ).build()
        evaluated, ahead = _evaluated(plan), _ahead(plan)
        # SQLMesh would evaluate what reads them, of which nothing has changed.
        if not {*evaluated, *ahead} & (plan.selected_models_to_restate or set()):
            raise NothingRestated(restatement.models, restatement.start, restatement.end)
        if not restatement.dry_run:
            _apply(context, plan, settings, wait, run_id)
        restated = {s_id.name for s_id in plan.restatements}
        return [
            *(
                PlannedModel(_name(plan, name), WITHDRAWN, [interval])
                for name, interval in ahead.items()
            ),
            *(
                PlannedModel(_name(plan, name), "restated" if name in restated else "due", ranges)
                for name, ranges in evaluated.items()
            ),
        ]


def _apply(
    context: Context, plan: Plan, settings: AutomationSettings, wait: Wait, run_id: str
) -> None:
    """Applies a restatement with the lease on every model that it concerns."""
    from ..lease.server import model_lease
    from ..project.ahead import withdraw
    from ..project.snapshots import table_identity
    from ..sqlmesh_internals import writing_adapters
    from .query_tags import tag_plans

    evaluated, ahead = _evaluated(plan), _ahead(plan)
    with model_lease(
        context,
        settings.environment,
        run_id,
        executions=settings.max_concurrent_executions,
        wait=wait,
    ) as lease:
        lease.guard(writing_adapters(context))
        lease.hold(
            {
                table_identity(snapshot): _name(plan, snapshot.name)
                for snapshot in plan.snapshots.values()
                if snapshot.name in {*evaluated, *ahead}
            }
        )
        withdraw(context, [s for s in plan.snapshots.values() if s.name in ahead])
        if evaluated:
            wait.say(f"Plan {plan.plan_id} restates {len(plan.restatements)} models")
            tag_plans(context, run_id)
            context.apply(plan)


@contextmanager
def _opened(settings: AutomationSettings, wait: Wait, holder: str) -> Iterator[Context]:
    from .notifications import guard_notifications

    with (
        open_context(settings, load=False) as context,
        database_lease(duckdb_files(context), wait, holder),
    ):
        try:
            with naming_failures(settings):
                # With the lease in hand: it opens the databases, which a run may have open.
                load_project(context, settings)
                guard_notifications(context, settings, wait.say)
                yield context
        finally:
            # Before the database's lease is: whoever gets it next opens the same files.
            context.close()


def _evaluated(plan: Plan) -> dict[str, list[Interval]]:
    """What a plan evaluates of each model, in the order of their dependencies."""
    from sqlmesh.core.snapshot import snapshots_to_dag

    missing = {each.snapshot_id: each.merged_intervals for each in plan.missing_intervals}
    return {
        s_id.name: [(moment(begin), moment(end)) for begin, end in missing[s_id]]
        for s_id in snapshots_to_dag(plan.context_diff.snapshots.values())
        if s_id in missing
    }


def _ahead(plan: Plan) -> dict[str, Interval]:
    """Returns what a restatement takes off SQLMesh's record, because it has not ended, by model."""
    from ..project.ahead import not_ended

    names = {s_id.name for s_id in plan.restatements} | (plan.selected_models_to_restate or set())
    return not_ended(s for s in plan.snapshots.values() if s.name in names)


def _name(plan: Plan, fqn: str) -> str:
    from ..project.snapshots import display_name

    return display_name(plan.context_diff.snapshots_by_name[fqn])
