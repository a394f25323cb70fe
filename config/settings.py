"""The settings of one automated SQLMesh environment, read from variables and a YAML file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import SettingsConfigDict

from .commands import sqlmesh_command
from .keys import ExternalKey
from .names import EnvironmentName, check_length
from .paths import ProjectPaths, Projects, usable_path
from .read_settings import ReadSettings
from .rules import (
    CronText,
    DescriptionSql,
    Isolation,
    ModelRule,
    OnInvalidProject,
    RetrySettings,
    ScheduleText,
    Source,
    Upstream,
    ZoneName,
)
from .sources import PREFIX as PREFIX


class AutomationSettings(ReadSettings):
    """All settings. Every one is an environment variable ``SQLMESH_AUTOMATION_<NAME>``.

    A second environment or project has a prefix of its own:
    ``AutomationSettings(_env_prefix="FINANCE_")`` reads ``FINANCE_PROJECT`` and so on. None may
    begin with another one.

    An argument, or a value within one, may be Dagster's ``EnvVar``.

    Precedence, highest first: arguments, the environment, the YAML file that ``CONFIG`` names,
    the defaults below.

    Raises:
        SettingsError: A variable or YAML key is unknown, or a value cannot be used. The message
            names the variable, the value and what is accepted.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        validate_default=True,
    )

    project: ProjectPaths = Field(
        default=Path(),
        description=(
            "Folder of the SQLMesh project (where its config.yaml or config.py is); or a list of "
            "several with one state, as `sqlmesh -p a -p b run` takes them, the main one first."
        ),
    )
    gateway: str | None = Field(
        default=None,
        description="SQLMesh gateway to use; the project's default gateway when not set.",
    )
    sqlmesh_config: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description=(
            "Name of the configuration to use of several in the project's `config.py`, as "
            "`sqlmesh --config NAME plan` takes it; `config` when not set."
        ),
    )
    environment: EnvironmentName = Field(
        default="prod", description="SQLMesh environment whose models are automated."
    )
    enabled: bool = Field(
        default=False,
        description=(
            "Whether the automation sensor starts switched on. "
            "A switch made in the UI wins over this."
        ),
    )
    interval_seconds: int = Field(
        default=30, ge=1, le=86_400, description="Least time between two ticks, in seconds."
    )
    manifest: Path | None = Field(
        default=None,
        description=(
            "File for the prepared manifest; below the project's .cache folder when not set. "
            "Set it where the project folder is read-only, and SQLMesh's own `cache_dir` too. "
            "Nothing but a manifest is overwritten."
        ),
    )
    lease_timeout_seconds: int = Field(
        default=3600,
        ge=0,
        le=31_536_000,
        description=(
            "How long a run waits for others that evaluate the same models, or have the same "
            "DuckDB file open, in seconds."
        ),
    )
    cancel_grace_seconds: int | None = Field(
        default=None,
        ge=0,
        le=604_800,
        description=(
            "How long models in flight may go on after their run was terminated, in seconds; then "
            "their statements are cancelled. Without it they go on to their end, unless the run is "
            "terminated again."
        ),
    )
    max_concurrent_executions: int = Field(
        default=4,
        ge=1,
        le=64,
        description=(
            "How many runs may evaluate models of the environment at once, each its own models. "
            "On DuckDB they take turns; where SQLMesh's state is on an engine without session "
            "locks, it is always one."
        ),
    )
    isolation: Isolation = Field(
        default=Isolation.AUTO,
        description=(
            "Where SQLMesh executes: a `process` of its own, or a `thread` of the run's. `auto` is "
            "the process where warehouse and state are on servers, the thread on DuckDB and for "
            "the command line's ticks."
        ),
    )
    max_models_per_run: int = Field(
        default=0,
        ge=0,
        le=1_000_000,
        description=(
            "How many models one tick requests at most: those that have waited longest, upstream "
            "ones first. Those that are left follow at the next ticks. One that would wait for "
            "ever goes with more, and the tick warns. 0 for no limit."
        ),
    )
    auto_upstream: bool = Field(
        default=True,
        description=(
            "Whether a run also evaluates upstream models that miss intervals, as SQLMesh's own "
            "run with a selection does."
        ),
    )
    notifications: bool = Field(
        default=True,
        description=(
            "Whether the notification targets of the SQLMesh project are told of runs and failed "
            "audits, as `sqlmesh run` tells them."
        ),
    )
    timezone: ZoneName = Field(
        default="UTC",
        description=(
            "IANA time zone of schedules that name none of their own, and of times in messages."
        ),
    )
    cron_map: dict[CronText, ScheduleText] = Field(
        default={},
        description=(
            "When models with a SQLMesh cron may be requested: SQLMesh cron to schedule, with its "
            "own time zone where wanted, or `off`."
        ),
    )
    models: dict[str, ModelRule] = Field(
        default={},
        description=(
            "Rules for single models: a pattern over names, `tag:` or `kind:` to what it sets. "
            "Of several rules that set a value, the last one counts."
        ),
    )
    upstream: Upstream = Field(
        default=Upstream.WAIT,
        description=(
            "What a model does while something upstream of it is due and not requested: `wait`, "
            "or `ignore` it and be evaluated without."
        ),
    )
    retry: RetrySettings = Field(
        default=RetrySettings(), description="How often a model that failed is requested again."
    )
    source: Source = Field(
        default=Source.PROJECT,
        description=(
            "Where definitions come from: the `project`'s files, or what the `environment` holds "
            "in SQLMesh's state."
        ),
    )
    on_invalid_project: OnInvalidProject = Field(
        default=OnInvalidProject.EARLIER,
        description=(
            "What a code location does while a file of the project does not load: show the models "
            "of the `earlier` load, as the manifest has them, with a warning at every tick; or "
            "`fail`."
        ),
    )
    name: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9_]+$",
        description=(
            "Tells this project from others with the same environment name in one Dagster "
            "deployment: the sensor is then sqlmesh_<name>_<environment>_automation."
        ),
    )
    asset_key_prefix: str = Field(
        default="",
        pattern=r"^([A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*)?$",
        description="In front of every asset key, such as `finance` or `finance/dev`.",
    )
    external_asset_key: ExternalKey | None = Field(
        default=None,
        description=(
            "Asset key of tables that are made outside SQLMesh, with their `{catalog}`, `{schema}` "
            "and `{name}`: such as `raw/{schema}/{name}`. The default catalog has a name too: "
            "leave `{catalog}` out where your keys have none. Models then read your assets with "
            "these keys; without it, such tables are assets of their own."
        ),
    )
    freshness: bool = Field(
        default=True,
        description=(
            "Whether models have a freshness policy, so that Dagster's catalog shows which are "
            "late. Dagster evaluates it unless its `dagster.yaml` has "
            "`freshness: {enabled: false}`."
        ),
    )
    freshness_grace_seconds: int = Field(
        default=3600,
        ge=60,
        le=31_536_000,
        description=(
            "How long after its schedule a model may be materialized before it is late, in "
            "seconds; at most until the schedule fires again."
        ),
    )
    description_sql: DescriptionSql = Field(
        default=DescriptionSql.WRITTEN,
        description=(
            "Which query stands in the description of a model's asset: as it is `written`, with "
            "its macros; `rendered`, for a time in 1970; or `none`."
        ),
    )
    description_sql_characters: int = Field(
        default=5000,
        ge=0,
        le=1_000_000,
        description=(
            "How much of that query stands there, in characters. "
            "0 keeps SQL out of Dagster: out of failures, their messages and failed audits too."
        ),
    )
    keep_evaluations_days: int = Field(
        default=30,
        ge=1,
        le=36_500,
        description=(
            "How long Dagster keeps what conditions were evaluated to, in days; older records of "
            "automation sensors are purged once a day."
        ),
    )
    config: Path | None = Field(
        default=None, description="YAML file with the same keys in lower case."
    )

    # Again, for type checkers: pydantic's decorator lets them infer another one.
    def __init__(self, _written_in: str | None = None, /, **values: Any) -> None:
        """Reads the settings; see :class:`.ReadSettings`."""
        super().__init__(_written_in, **values)

    @field_validator("manifest", "config")
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        return path if path is None else usable_path(path)

    @field_validator("name")
    @classmethod
    def _short(cls, name: str | None, info: ValidationInfo) -> str | None:
        if name is not None:
            check_length(name, info.data.get("environment", ""))
        return name

    @property
    def projects(self) -> Projects:
        """The folders of the setting ``project``, also where it is one."""
        return Projects(self.project if isinstance(self.project, tuple) else [self.project])

    def sqlmesh_command(self, words: str) -> str:
        """Returns a command of SQLMesh's for this project, as a person types it."""
        return sqlmesh_command(words, self.projects, self.gateway, self.sqlmesh_config)

    @property
    def id(self) -> str:
        """The name of this environment within Dagster definitions, as in ``sqlmesh_prod_…``.

        It is the value of a tag as well, which may have 63 characters.
        """
        parts = ("sqlmesh", self.name, self.environment)
        return "_".join(part for part in parts if part)
