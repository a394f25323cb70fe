"""Dagster storages that ``dagster.yaml`` can name; see :mod:`.assets.storage.sqlite`."""

from dagster_sqlmesh_automation.assets.storage.sqlite import PooledSqliteStorage

__all__ = ["PooledSqliteStorage"]
