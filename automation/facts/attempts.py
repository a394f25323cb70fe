"""Which attempts at a model count together."""

from __future__ import annotations

from datetime import datetime

from ...config.cron import next_tick
from .facts import Attempt, Node


def counts(node: Node, planned_at: datetime | None, newest: Attempt, attempt: Attempt) -> bool:
    """Whether an attempt counts: one after the last plan, in the same row as the newest.

    A row is what lies between two cron ticks of the model: with the next one SQLMesh holds other
    intervals due.
    """
    if planned_at is not None and planned_at > attempt.started:
        return False
    return next_cron(node, attempt) == next_cron(node, newest)


def next_cron(node: Node, attempt: Attempt) -> datetime:
    """The first tick of a model's cron after the moment for which an attempt was made."""
    return next_tick(node.cron, attempt.at, node.cron_tz)
