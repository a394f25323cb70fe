"""Dagster's side of a run: its one execution, and what each step reports of it.

Imports Dagster and never SQLMesh. What makes SQLMesh evaluate is in :mod:`..evaluation`; what holds
for more than one run (definitions, decisions, what a tick does) does not belong here either.
"""
