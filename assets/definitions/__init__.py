"""How a model looks in Dagster and how it is automated: specs, keys, metadata, freshness, policy.

Everything here is made from the manifest and the settings alone. Nothing here imports SQLMesh,
opens a database, or knows of runs.
"""
