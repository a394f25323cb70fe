"""This room puts right what a tick finds: dead runs, outside evaluations, drift, old records.

Each part reports to Dagster what is true in SQLMesh. Nothing here requests a run.
"""
