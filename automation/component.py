"""A SQLMesh environment as a component for ``dg``: ``defs.yaml`` in place of Python."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args, get_origin

import dagster as dg
from dagster.components.utils.translation import TranslationFn, TranslationFnResolver
from pydantic import BaseModel, PrivateAttr, create_model
from pydantic.fields import FieldInfo

from ..assets.definitions.translator import SQLMeshTranslator
from ..assets.execution.executor import sqlmesh_executor
from ..assets.project.manifest import ManifestModel
from ..config.errors import SettingsError
from ..config.paths import paths_in
from ..config.references import Reference
from ..config.settings import AutomationSettings
from .definitions import build_definitions
from .scaffolder import SQLMeshAutomationScaffolder
from .templates import TemplateVariables
from .tick.conditions import SqlmeshDue


def _rendered(context: dg.ResolutionContext, value: Any) -> Any:
    """Returns a value of ``defs.yaml`` with its templates filled in.

    Dagster's own rendering turns every text that reads like a number into one, even a ``name``.
    """
    if isinstance(value, dict):
        return {key: _rendered(context.at_path(key), item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rendered(context.at_path(place), item) for place, item in enumerate(value)]
    if not isinstance(value, str) or not ("{{" in value or "{%" in value):
        return value
    scope = TemplateVariables(context.path, value)
    filled = context.with_scope(env=scope).resolve_value(value)
    is_text = not (filled is None or isinstance(filled, dict | list) or Reference.of(filled))
    return str(filled) if is_text else filled


def _path(context: dg.ResolutionContext, value: Any) -> Any:
    """Returns a path or a list of them, taken from the folder of ``defs.yaml``."""
    path = paths_in(_rendered(context, value))
    if isinstance(path, list):
        return [_path(context.at_path(place), item) for place, item in enumerate(path)]
    if path is None or Reference.of(path) or str(path).startswith("["):
        return path  # the last is a list in JSON with a mistake, which the settings refuse
    return context.resolve_source_relative_path(str(path))


def _attribute(field: FieldInfo) -> tuple[Any, Any]:
    """Returns a setting as an attribute, with templates allowed; the settings check its value."""
    kinds = (field.annotation, *get_args(field.annotation))
    in_file: Any = field.annotation
    if isinstance(field.default, dict | BaseModel):
        in_file = dict[str, Any]
    elif any(get_origin(kind) is tuple for kind in kinds):
        in_file = str | list[str]  # as a path, a template within a list would not be one
    resolver = dg.Resolver(
        _path if Path in kinds else _rendered,
        model_field_type=in_file,
        description=field.description,
        inject_before_resolve=False,
    )
    return Annotated[Any, resolver], field.default


# The settings are listed once, in AutomationSettings; mypy knows no classes made at run time.
_fields: dict[str, Any] = {
    name: _attribute(field) for name, field in AutomationSettings.model_fields.items()
}
_Attributes: Any = create_model("_Attributes", __base__=dg.Model, **_fields)


_EXECUTORS = {"automatic": sqlmesh_executor, "in_process": dg.in_process_executor, None: None}


@dg.scaffold_with(SQLMeshAutomationScaffolder)
class SQLMeshAutomationComponent(_Attributes, dg.Component, dg.Resolvable):  # type: ignore[misc]
    """The models of a SQLMesh environment as assets, automated.

    The attributes are the settings, in lower case, and two more::

        type: dagster_sqlmesh_automation.SQLMeshAutomationComponent
        attributes:
          project: "{{ context.project_root }}/sqlmesh"
          environment: "{{ env.SQLMESH_ENVIRONMENT }}"
          enabled: true
          cron_map: {"@daily": 0 6 * * 1-5 Europe/Berlin}
          translation:
            group_name: "{{ model.schema }}"

    A template is refused if it uses an environment variable that is not set;
    ``env('NAME', 'default')`` gives a default. A setting that is no attribute comes from
    ``SQLMESH_AUTOMATION_…`` environment variables, then from the YAML file that ``config`` names;
    attributes win. Paths are relative to the folder of ``defs.yaml``.

    It is not state-backed: the manifest below the project's ``.cache`` folder is the state, and
    renews itself when the project changes.

    Attributes:
        translation: Overrides parts of the asset that the translator makes of a model. Its
            templates may use ``model`` (:class:`ManifestModel`) and ``spec``.
        executor: ``automatic`` runs models in one process and other runs as Dagster does by
            default; ``in_process`` all runs in one; ``null`` if the code location has an executor
            of its own.
    """

    translation: Annotated[
        TranslationFn[ManifestModel] | None,
        TranslationFnResolver[ManifestModel](
            lambda model: {"model": model, "env": TemplateVariables(["translation"])}
        ),
    ] = None
    executor: Annotated[
        Literal["automatic", "in_process"] | None,
        dg.Resolver(
            _rendered,
            model_field_type=Literal["automatic", "in_process"] | str | None,
            description="What runs the steps; null where the code location has its own executor.",
            inject_before_resolve=False,
        ),
    ] = "automatic"

    _written_in: str | None = PrivateAttr(default=None)

    @classmethod
    def resolve_from_model(cls, context: dg.ResolutionContext, model: BaseModel) -> Self:
        """Returns the component that a ``defs.yaml`` describes."""
        component: Self = super().resolve_from_model(context, model)
        if context.source_position_tree is not None:
            component._written_in = context.source_position_tree.position.filename
        return component

    @cached_property
    def settings(self) -> AutomationSettings:
        """The settings.

        Raises:
            SettingsError: A value cannot be used.
        """
        names = self.model_fields_set & AutomationSettings.model_fields.keys()
        values = {name: getattr(self, name) for name in names}
        return AutomationSettings(self._written_in, **values)

    def get_translator(self) -> SQLMeshTranslator:
        """Returns the translator, which says how models look as assets.

        Override it with a subclass of the translator that it returns::

            class OurComponent(SQLMeshAutomationComponent):
                def get_translator(self):
                    return OurTranslator(self.translation)
        """
        return SQLMeshComponentTranslator(self.translation)

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Returns the definitions that :func:`build_definitions` makes of the settings."""
        translator = self.get_translator()
        if self.translation and not isinstance(translator, SQLMeshComponentTranslator):
            raise SettingsError(
                [
                    f"translation cannot be used with {type(translator).__name__}, which "
                    f"{type(self).__name__}.get_translator returns. "
                    "Derive it from SQLMeshComponentTranslator, or leave the attribute out."
                ]
            )
        return build_definitions(
            self.settings,
            translator=translator,
            executor=_EXECUTORS[self.executor],
        )


class SQLMeshComponentTranslator(SQLMeshTranslator):
    """Applies the attribute ``translation`` on top of the other methods.

    Args:
        translation: Returns an asset with what the attribute overrides, from asset and model.
    """

    def __init__(self, translation: TranslationFn[ManifestModel] | None = None) -> None:
        self._translation = translation
        self._keys: dict[str, dg.AssetKey] = {}

    def get_asset_key(self, model: ManifestModel) -> dg.AssetKey:
        """Returns the key after translation; the asset has no dependencies and kinds yet."""
        key = super().get_asset_key(model)
        if self._translation is None:
            return key
        if model.fqn not in self._keys:
            spec = dg.AssetSpec(
                key,
                description=self.get_description(model),
                metadata=self.get_metadata(model),
                group_name=self.get_group_name(model),
                code_version=self.get_code_version(model),
                owners=self.get_owners(model),
                tags=self.get_tags(model),
                automation_condition=SqlmeshDue() if model.is_executed else None,
            )
            self._keys[model.fqn] = self._translation(spec, model).key
        return self._keys[model.fqn]

    def get_asset_spec(self, model: ManifestModel, default: dg.AssetSpec) -> dg.AssetSpec:
        """Returns the asset after translation."""
        return self._translation(default, model) if self._translation else default
