"""Definitions of this package from the prepared manifest, as a run's process loads them."""

import sys

from repeated import say, seconds_of

from dagster_sqlmesh_automation import build_definitions

if __name__ == "__main__":
    found = seconds_of(lambda: build_definitions().get_repository_def(), 1)
    say(seconds=found[0], imported=any(name.startswith("sqlmesh.") for name in sys.modules))
