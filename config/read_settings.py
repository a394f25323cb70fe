"""Settings that are read from arguments, the environment and a YAML file, with errors in words."""

from __future__ import annotations

from typing import Any

from pydantic import PrivateAttr, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsError as SourceError,
)

from .errors import SettingsError
from .problems import explain
from .reading import all_sources, with_file
from .references import References
from .sources import PREFIX, Sources
from .variables import from_json, refuse_unknown, unreadable_json


class ReadSettings(BaseSettings):
    """Settings of any names; what each is, a subclass says.

    An argument, or a value within one, may be Dagster's ``EnvVar``.

    Raises:
        SettingsError: A variable or YAML key is unknown, or a value cannot be used. The message
            names the variable, the value and what is accepted.
    """

    _sources: Sources = PrivateAttr(default=Sources())

    def __init__(self, _written_in: str | None = None, /, **values: Any) -> None:
        """Reads the settings.

        Args:
            _written_in: The file that the values were read from, for messages; ``None`` if Python
                code passes them.
            values: Settings, and what pydantic-settings takes, such as ``_env_prefix``.
        """
        references = References()
        values = references.read(values)
        prefix = values.get("_env_prefix") or PREFIX
        sources = Sources(prefix, values, _written_in, references.by_path)
        if references.unset:
            raise SettingsError([sources.unset(*path) for path in references.unset])
        refuse_unknown(type(self), prefix)
        values |= from_json(type(self), values, sources)
        try:
            sources = all_sources(type(self), sources)
            super().__init__(**values)
        except ValidationError as error:
            names = type(self).model_fields
            raise SettingsError(
                [explain(problem, sources, names) for problem in error.errors()]
            ) from None  # pydantic's own error holds the values as well
        except (SourceError, RecursionError):
            raise unreadable_json(type(self), prefix) from None
        self._sources = sources

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Returns the sources, highest first: arguments, the environment, the YAML file."""
        return with_file(settings_cls, init_settings, env_settings)

    def place(self, *path: str | int) -> str:
        """Returns where a value stands, or where a person would set it, for messages.

        Args:
            path: The setting's name, then the keys within it.

        Returns:
            A text such as ``SQLMESH_AUTOMATION_TIMEZONE`` or ``timezone in /srv/defs.yaml``.
        """
        return self._sources.place(*path)
