"""What the SQLMesh project and its environment hold, and how SQLMesh is opened.

The manifest is the project's facts as JSON; the modules beside it make it with SQLMesh. Nothing
here knows of Dagster's assets, runs or ticks.
"""
