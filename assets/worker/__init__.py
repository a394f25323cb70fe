"""Where SQLMesh's side of a run executes: in the run's process, or in one of its own.

Knows neither Dagster nor SQLMesh. What is said between the two sides is
:mod:`..evaluation.contract`; how it crosses from one process to the other is here.
"""
