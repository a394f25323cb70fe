"""What a tick reads before it decides: due models from SQLMesh, runs and attempts from Dagster.

Facts are read and parsed here, each with what could not be read left out and named. Nothing here
decides or writes.
"""
