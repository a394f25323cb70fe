"""Dagster storages that ``dagster.yaml`` can name; see the room :mod:`.assets.storage`."""

from typing import Any

from dagster_sqlmesh_automation.assets.storage.sqlite import PooledSqliteStorage

__all__ = ["PooledPostgresStorage", "PooledSqliteStorage"]  # noqa: F822 - see __getattr__


def __getattr__(name: str) -> Any:
    # dagster-postgres need not be installed.
    if name == "PooledPostgresStorage":
        from dagster_sqlmesh_automation.assets.storage.postgres import PooledPostgresStorage

        return PooledPostgresStorage
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
