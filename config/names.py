"""The names of an environment and of a project, which Dagster's definitions and tags hold."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator

_MOST_IN_TAG = 63


def _environment(environment: str) -> str:
    name = environment.strip().lower()
    # SQLMesh would change other characters. The length is that of Dagster's tags.
    if not re.fullmatch(r"[a-z0-9_]{1,55}", name):
        raise ValueError(
            "letters from a to z, digits and underscores, at most 55, such as prod or dev_anna"
        )
    return name


EnvironmentName = Annotated[str, AfterValidator(_environment)]
"""The name of a SQLMesh environment, as SQLMesh itself would write it."""


def check_length(name: str, environment: str) -> None:
    """Makes sure that a name fits into Dagster's tags beside an environment's.

    Raises:
        ValueError: It is too long.
    """
    most = _MOST_IN_TAG - len(f"sqlmesh__{environment}")
    if len(name) > most:
        raise ValueError(
            f"at most {max(most, 0)} characters beside this environment: Dagster allows "
            f"sqlmesh_<name>_<environment> to have {_MOST_IN_TAG}"
        )
