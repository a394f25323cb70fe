"""What SQLMesh itself takes to load the project, its cache filled."""

import os

from repeated import say, seconds_of
from sqlmesh import Context

if __name__ == "__main__":
    found = seconds_of(lambda: Context(paths=[os.environ["PROJECT"]]), 1)
    say(seconds=found[0])
