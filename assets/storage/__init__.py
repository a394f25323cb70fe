"""Dagster storages that ``dagster.yaml`` can name, cheaper than Dagster's own.

They store what Dagster's own classes store, in the same files and tables. Nothing here knows of
SQLMesh, models or runs' contents.
"""
