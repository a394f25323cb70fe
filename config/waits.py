"""How long a run waits, as types of settings, with what a person reads about them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

LeaseTimeoutSeconds = Annotated[
    int,
    Field(
        ge=0,
        le=31_536_000,
        description=(
            "How long a run waits for others that evaluate the same models, or have the same "
            "DuckDB file open, in seconds."
        ),
    ),
]
"""The type of the setting ``LEASE_TIMEOUT_SECONDS``."""

CancelGraceSeconds = Annotated[
    int | None,
    Field(
        ge=0,
        le=604_800,
        description=(
            "How long models in flight may go on after their run was terminated, in seconds; then "
            "their statements are cancelled. Without it they go on to their end, unless the run is "
            "terminated again."
        ),
    ),
]
"""The type of the setting ``CANCEL_GRACE_SECONDS``."""
