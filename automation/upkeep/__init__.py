"""What a tick puts right beside its decisions: dead runs, outside evaluations, drift, old records.

Each part reports to Dagster what is so in SQLMesh. Nothing here requests a run.
"""
