"""Settings for single models: rules, and the values that they set."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator

from .cron import OFF, check_cron, check_zone, split_schedule
from .references import Part


class Upstream(StrEnum):
    """What a model does while something upstream of it is due and not requested."""

    WAIT = "wait"
    IGNORE = "ignore"


class Source(StrEnum):
    """What definitions are made from."""

    PROJECT = "project"
    ENVIRONMENT = "environment"


class OnInvalidProject(StrEnum):
    """What a code location does while a file of the project does not load."""

    EARLIER = "earlier"
    FAIL = "fail"


class DescriptionSql(StrEnum):
    """Which query of a model stands in its asset's description."""

    WRITTEN = "written"
    RENDERED = "rendered"
    NONE = "none"


class Isolation(StrEnum):
    """Where SQLMesh executes."""

    AUTO = "auto"
    PROCESS = "process"
    THREAD = "thread"


def _checked(text: str) -> str:
    split_schedule(text)
    return text


def _unquoted(value: Any) -> Any:
    # YAML reads an ``off`` without quotes as false.
    return OFF if value is False else value


def _cron(text: str) -> str:
    check_cron(text)
    return text


CronText = Annotated[str, AfterValidator(_cron)]
"""A cron expression or alias, as SQLMesh models have it."""

ScheduleText = Annotated[str, BeforeValidator(_unquoted), AfterValidator(_checked)]
"""A cron expression or alias, with a time zone if it has its own; or ``off``."""

ZoneName = Annotated[str, AfterValidator(check_zone)]
"""The IANA name of a time zone."""


class RetrySettings(Part):
    """How often a model that failed is requested again, and when."""

    max_attempts: int = Field(
        default=3,
        ge=1,
        le=100,
        description=(
            "How many runs in a row may fail to evaluate a model before it waits for its next "
            "cron tick or a new plan; 1 for no retry."
        ),
    )
    delay_seconds: int = Field(
        default=600,
        ge=0,
        le=86_400,
        description="How long after its first failure a model is requested again, in seconds; "
        "each further time waits twice as long as the one before.",
    )
    max_delay_seconds: int = Field(
        default=3600,
        ge=0,
        le=604_800,
        validate_default=True,
        description="The longest such wait, in seconds; not below ``delay_seconds``.",
    )

    @field_validator("max_delay_seconds")
    @classmethod
    def _longest(cls, longest: int, info: ValidationInfo) -> int:
        first = info.data.get("delay_seconds", 0)
        if longest < first:
            raise ValueError(f"at least delay_seconds, which is {first}; set both")
        return longest


class RetryRule(Part):
    """The retry settings that a rule changes."""

    max_attempts: int | None = Field(default=None, ge=1, le=100)
    delay_seconds: int | None = Field(default=None, ge=0, le=86_400)
    max_delay_seconds: int | None = Field(default=None, ge=0, le=604_800)


@dataclass(frozen=True, slots=True)
class BatchLimit:
    """The longest that one batch of a model may take.

    Attributes:
        seconds: How long, in seconds.
        origin: The rule that sets it, such as ``MODELS sales.*``.
    """

    seconds: float
    origin: str

    @property
    def error(self) -> str:
        """What a model is told that exceeds it."""
        return (
            f"it ran longer than max_seconds={self.seconds:.0f} ({self.origin}) and was cancelled"
        )


class ModelRule(Part):
    """The values that a rule sets for the models that its pattern matches; all are optional."""

    schedule: ScheduleText | None = Field(
        default=None,
        description="When the model may be requested, as in ``CRON_MAP``; ``off`` pauses it.",
    )
    paused: bool | None = Field(
        default=None, description="Whether the model is never requested by itself."
    )
    retry: RetryRule | None = Field(
        default=None, description="As ``RETRY``; keys that are not given keep their value."
    )
    min_gap_seconds: int | None = Field(
        default=None,
        ge=0,
        le=31_536_000,
        description="At most one request in so many seconds.",
    )
    max_seconds: int | None = Field(
        default=None,
        ge=1,
        le=31_536_000,
        description=(
            "The longest that one batch of the model may take in a run, in seconds; then its "
            "statement is cancelled, and the model fails."
        ),
    )
    upstream: Upstream | None = Field(default=None, description="As ``UPSTREAM``.")
    priority: int | None = Field(
        default=None,
        ge=-1_000_000,
        le=1_000_000,
        description=(
            "Dagster's priority: of the model's step, and of the run, which has that of its most "
            "urgent model."
        ),
    )
    group: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9_]+$",
        description="Group of the asset in Dagster.",
    )

    def values(self) -> dict[str, Any]:
        """Returns the values that the rule sets, by their names."""
        return self.model_dump(exclude_none=True)
