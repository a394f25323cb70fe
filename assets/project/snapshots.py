"""What a SQLMesh snapshot is called, and what identifies the table that it writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlmesh.core.snapshot import Snapshot


def table_identity(snapshot: Snapshot) -> str:
    """What identifies the table that evaluating a model writes; environments may share it."""
    return f"{snapshot.name} {snapshot.version}"


def display_name(snapshot: Snapshot) -> str:
    """The name that a person knows a model or a standalone audit by."""
    return snapshot.model.name if snapshot.is_model else snapshot.name
