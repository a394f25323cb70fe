"""What the processes of a run tell each other: outcomes, rounds, and who executes.

Records are written as engine events of the run and read back from there. Nothing here imports
SQLMesh or decides what is evaluated.
"""
