"""Every query of a Dagster run carries the run's id, so that its cost can be traced.

SQLMesh writes it as a comment before the query (``/* SQLMESH_RUN: … */``) and, on BigQuery, as the
label ``sqlmesh_run`` of the job. Its own queries to its state carry nothing, as ever.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlmesh.utils import CorrelationId

if TYPE_CHECKING:
    from sqlmesh.core.context import Context
    from sqlmesh.core.snapshot import SnapshotEvaluator


def tagged(evaluator: SnapshotEvaluator, run_id: str) -> SnapshotEvaluator:
    """The same evaluator with the same connections, whose queries carry a Dagster run's id.

    ``Context.run`` does the same with an id that it draws.
    """
    return evaluator.set_correlation_id(CorrelationId.from_run_id(run_id))


def tag_plans(context: Context, run_id: str) -> None:
    """Has the plans that a context applies carry the id of a Dagster run, not the plan's."""
    evaluator = context.snapshot_evaluator
    original = evaluator.set_correlation_id

    def set_correlation_id(correlation_id: CorrelationId) -> SnapshotEvaluator:
        return original(CorrelationId.from_run_id(run_id))

    evaluator.set_correlation_id = set_correlation_id  # type: ignore[method-assign]
