"""Definitions of dg-sqlmesh."""

import os

from dg_sqlmesh import sqlmesh_definitions_factory
from repeated import say, seconds_of


def load() -> None:
    sqlmesh_definitions_factory(
        project_dir=os.environ["PROJECT"],
        gateway="main",
        environment="prod",
        enable_schedule=True,
    ).get_repository_def()


if __name__ == "__main__":
    say(seconds=seconds_of(load, 1)[0])
