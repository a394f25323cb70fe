"""The settings of one automated SQLMesh environment, from the environment and a YAML file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from .errors import SettingsError

PREFIX = "SQLMESH_AUTOMATION_"


class AutomationSettings(BaseSettings):
    """All settings. Every one is an environment variable ``SQLMESH_AUTOMATION_<NAME>``.

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

    project: Path = Field(
        default=Path(),
        description="Folder of the SQLMesh project (where its config.yaml or config.py is).",
    )
    gateway: str | None = Field(
        default=None,
        description="SQLMesh gateway to use; the project's default gateway when not set.",
    )
    environment: str = Field(
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
            "Set it where the project folder is read-only."
        ),
    )
    lease_timeout_seconds: int = Field(
        default=3600,
        ge=0,
        description=(
            "How long a run waits for others that evaluate the same models, or have the same "
            "DuckDB file open, in seconds."
        ),
    )
    max_concurrent_executions: int = Field(
        default=1,
        ge=1,
        le=64,
        description=(
            "How many runs may evaluate models of the environment at once, each its own models. "
            "On DuckDB it is always one."
        ),
    )
    auto_upstream: bool = Field(
        default=True,
        description=(
            "Whether a run also evaluates upstream models that miss intervals, as SQLMesh's own "
            "run with a selection does."
        ),
    )
    config: Path | None = Field(
        default=None, description="YAML file with the same keys in lower case."
    )

    def __init__(self, **values: Any) -> None:
        prefix = values.get("_env_prefix", PREFIX)
        known = {f"{prefix}{name.upper()}" for name in type(self).model_fields}
        for variable in os.environ:
            if variable.startswith(prefix) and variable not in known:
                raise SettingsError.unknown(variable, "environment variable", known)
        try:
            super().__init__(**values)
        except ValidationError as error:
            file = values.get("config") or os.environ.get(f"{prefix}CONFIG")
            given = {*values, *(v.removeprefix(prefix).lower() for v in os.environ if v in known)}
            raise SettingsError(
                [
                    _explain(problem, prefix, None if problem["loc"][0] in given else file)
                    for problem in error.errors()
                ]
            ) from error

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the environment, then the YAML file."""
        path = init_settings().get("config") or env_settings().get("config")
        if path is None:
            return init_settings, env_settings
        prefix = getattr(env_settings, "env_prefix", PREFIX)
        known = set(settings_cls.model_fields) - {"config"}
        content = _read_yaml(Path(path), prefix, known)
        return init_settings, env_settings, InitSettingsSource(settings_cls, content)

    @field_validator("project", "manifest", "config")
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        # A daemon, a code server and a run worker need not share a working directory.
        return path if path is None else path.expanduser().absolute()

    @field_validator("environment")
    @classmethod
    def _sqlmesh_name(cls, environment: str) -> str:
        name = environment.strip().lower()
        if not name or not all(char.isalnum() or char == "_" for char in name):
            raise ValueError("letters, digits and underscores, such as prod or dev_anna")
        return name

    @property
    def id(self) -> str:
        """Name of this environment within Dagster definitions, as in ``sqlmesh_prod_…``."""
        return f"sqlmesh_{self.environment}"


def _read_yaml(path: Path, prefix: str, known: set[str]) -> dict[str, Any]:
    """The settings in the file that ``CONFIG`` names."""
    variable = f"{prefix}CONFIG={path}"
    if not path.is_file():
        raise SettingsError([f"{variable}: there is no such file"])
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError([f"{variable} is not YAML: {error}"]) from error
    if not isinstance(content, dict):
        raise SettingsError([f"{variable} is not a mapping of settings to values: {content!r}"])
    for key in content:
        if key not in known:
            raise SettingsError.unknown(str(key), f"in {path}", known)
    return content


def _explain(problem: Any, prefix: str, file: str | Path | None) -> str:
    """One line for a pydantic error: the variable or file, the value, what is accepted."""
    key = "__".join(str(part) for part in problem["loc"])
    name = f"{key} in {file}" if file else f"{prefix}{key.upper()}"
    accepted = problem["msg"].removeprefix("Value error, ")
    return f"{name}={problem['input']!r} cannot be used. Accepted: {accepted}"
