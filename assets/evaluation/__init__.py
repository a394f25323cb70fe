"""SQLMesh's side of a run: what makes SQLMesh evaluate, and what it says while it does.

Imports SQLMesh and never Dagster, so that it can run in a process of its own. What a run's steps
make of it, and how they tell Dagster, is in :mod:`..execution`.
"""
