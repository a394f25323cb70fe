"""The component: attributes of ``defs.yaml``, templates, translation, subclasses."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster.components.core.component_tree import ComponentTreeException
from dagster.components.resolved.errors import ResolutionException
from dagster.components.testing import create_defs_folder_sandbox
from support.ticks import Automation

from dagster_sqlmesh_automation import (
    AutomationSettings,
    SQLMeshAutomationComponent,
    SQLMeshComponentTranslator,
    SQLMeshTranslator,
    sqlmesh_executor,
)
from dagster_sqlmesh_automation.assets.project.manifest import ManifestModel
from dagster_sqlmesh_automation.automation.definitions import Location
from dagster_sqlmesh_automation.config.errors import ConfigurationError, SettingsError
from dagster_sqlmesh_automation.config.reference import EXAMPLES
from dagster_sqlmesh_automation.config.settings import PREFIX

TYPE = "dagster_sqlmesh_automation.SQLMeshAutomationComponent"
FIRST = datetime(2026, 10, 14, 1, tzinfo=UTC)

Load = Callable[..., SQLMeshAutomationComponent]

ENV_VARS = """
import dagster as dg


@dg.template_var
def ours():
    return dg.EnvVar("SHOP_ENV")


@dg.template_var
def folder():
    return dg.EnvVar("FOLDER")
"""


@pytest.fixture
def sandbox() -> Iterator[Any]:
    """A Dagster project."""
    with create_defs_folder_sandbox() as made:
        yield made


@pytest.fixture
def folder(sandbox: Any) -> Path:
    """The folder of the ``defs.yaml``."""
    made: Path = sandbox.defs_folder_path / "models"
    made.mkdir()
    return made


@pytest.fixture
def load(sandbox: Any, folder: Path) -> Load:
    """Loads a component from a ``defs.yaml`` with some attributes."""

    def loaded(
        template_vars_module: str | None = None, **attributes: Any
    ) -> SQLMeshAutomationComponent:
        content: dict[str, Any] = {"type": TYPE, "attributes": attributes}
        if template_vars_module is not None:
            content["template_vars_module"] = template_vars_module
        (folder / "defs.yaml").write_text(yaml.safe_dump(content))
        with sandbox.build_component_tree() as tree:
            component = tree.load_component(folder)
        assert isinstance(component, SQLMeshAutomationComponent)
        return component

    return loaded


def graph(component: SQLMeshAutomationComponent) -> dg.AssetGraph:
    return definitions(component).resolve_asset_graph()


def definitions(component: SQLMeshAutomationComponent) -> dg.Definitions:
    return component.build_defs(dg.ComponentTree.for_test().load_context)


def key(text: str) -> dg.AssetKey:
    return dg.AssetKey(text.split("/"))


# Settings


def test_every_setting_is_an_attribute_with_its_description() -> None:
    model = SQLMeshAutomationComponent.get_model_cls()
    assert model is not None
    attributes = model.model_json_schema()["properties"]
    assert {*attributes} == {*AutomationSettings.model_fields, "translation", "executor"}
    for name, field in AutomationSettings.model_fields.items():
        assert attributes[name]["description"] == field.description


@pytest.mark.parametrize("name", [name for name in EXAMPLES if "__" not in name])
def test_an_attribute_means_the_same_as_the_variable(
    load: Load, name: str, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    example = EXAMPLES[name]
    if name == "config":
        example = str(folder / "automation.yaml")
        Path(example).write_text("interval_seconds: 7\n")
    found = load(**{name: yaml.safe_load(example)}).settings
    monkeypatch.setenv("GIVEN", example)
    templated = load(**{name: "{{ env.GIVEN }}"})
    assert templated.settings == found
    assert templated.model_fields_set == {name}

    monkeypatch.setenv(f"{PREFIX}{name.upper()}", example)
    assert found == AutomationSettings()


def test_an_attribute_wins_over_the_environment_and_that_over_the_file(
    load: Load, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "automation.yaml").write_text("{interval_seconds: 1, gateway: file, timezone: CET}")
    monkeypatch.setenv(f"{PREFIX}INTERVAL_SECONDS", "2")
    monkeypatch.setenv(f"{PREFIX}GATEWAY", "variable")
    settings = load(config="automation.yaml", interval_seconds=3).settings

    assert (settings.interval_seconds, settings.gateway, settings.timezone) == (
        3,
        "variable",
        "CET",
    )


def test_paths_are_taken_from_the_folder_of_the_file(
    load: Load, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    settings = load(project="../sqlmesh", manifest="manifest.json").settings
    assert settings.project == folder.parent / "sqlmesh"
    assert settings.manifest == folder / "manifest.json"
    assert load(project="/srv/analytics").settings.project == Path("/srv/analytics")


def test_texts_that_read_like_numbers_stay_texts(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("YEAR", "2026")
    settings = load(name="007", environment="{{ env.YEAR }}").settings
    assert (settings.name, settings.environment) == ("007", "2026")


def test_templates_may_stand_within_maps(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AT", "0 6 * * *")
    monkeypatch.setenv("ATTEMPTS", "5")
    settings = load(
        cron_map={"@daily": "{{ env.AT }} Europe/Berlin", "@weekly": False},
        retry={"max_attempts": "{{ env.ATTEMPTS }}"},
        models={"sales.*": {"priority": "{{ 2 * 5 }}", "paused": "{{ env.AT == 'never' }}"}},
    ).settings
    assert settings.cron_map == {"@daily": "0 6 * * * Europe/Berlin", "@weekly": "off"}
    assert settings.retry.max_attempts == 5
    assert settings.models["sales.*"].values() == {"priority": 10, "paused": False}


def test_an_object_may_come_as_json_from_one_variable(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RULES", '{"sales.*": {"paused": true, "group": null}}')
    settings = load(models="{{ env.RULES }}").settings
    assert settings.models["sales.*"].values() == {"paused": True}


@pytest.mark.parametrize(
    ("attribute", "value", "key", "problem"),
    [
        ("interval_seconds", 0, "interval_seconds", "=0 cannot be used"),
        ("interval_seconds", "soon", "interval_seconds", "='soon' cannot be used"),
        ("cron_map", {"@daily": "never"}, "cron_map['@daily']", "='never' cannot be used"),
        ("cron_map", "never", "cron_map", "='never' is not JSON: "),
        ("models", {"*": {"when": 1}}, "models['*'].when", "=1 cannot be used. Accepted: schedule"),
        ("retry", {"attempts": 1}, "retry.attempts", "=1 cannot be used. Accepted: max_attempts"),
        ("environment", "{{ none }}", "environment", "=None cannot be used"),
        ("environment", "{{ 'a b' }}", "environment", "='a b' cannot be used"),
    ],
)
def test_a_value_that_cannot_be_used_is_named_with_its_file(
    load: Load, folder: Path, attribute: str, value: Any, key: str, problem: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        definitions(load(**{attribute: value}))
    assert str(caught.value).startswith(f"{key} in {folder / 'defs.yaml'}{problem}")


@pytest.mark.parametrize(
    ("attributes", "key"),
    [
        ({"project": "/nowhere"}, "project"),
        ({"interval_seconds": 5}, "project"),
        ({"gateway": "warehouse"}, "gateway"),
        ({"models": {"nothing.*": {"paused": True}}}, "models['nothing.*']"),
    ],
)
def test_an_attribute_that_does_not_fit_the_project_is_named_with_its_file(
    load: Load, folder: Path, example: Path, attributes: dict[str, Any], key: str
) -> None:
    project = {} if key == "project" else {"project": str(example)}
    with pytest.raises(ConfigurationError) as caught:
        definitions(load(**project, **attributes))
    assert f"{key} in {folder / 'defs.yaml'}" in str(caught.value)
    assert PREFIX not in str(caught.value)


@pytest.mark.parametrize("templated", [False, True])
def test_several_projects_are_taken_from_the_folder_of_the_file(
    load: Load, folder: Path, monkeypatch: pytest.MonkeyPatch, templated: bool
) -> None:
    monkeypatch.setenv("MART", "/srv/mart")
    monkeypatch.setenv("BOTH", '["../sales", "/srv/mart"]')
    given = "{{ env.BOTH }}" if templated else ["../sales", "{{ env.MART }}"]
    settings = load(project=given).settings
    assert settings.projects == (folder.parent / "sales", Path("/srv/mart"))


def test_a_list_of_projects_with_a_mistake_is_refused(load: Load, folder: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load(project='["../sales"').settings  # noqa: B018
    told = f"project in {folder / 'defs.yaml'}='[\"../sales\"' cannot be used. Accepted: a path, or"
    assert str(caught.value).startswith(told)


def test_what_other_sources_hold_is_named_as_there(
    load: Load, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"{PREFIX}INTERVAL_SECONDS", "soon")
    (folder / "automation.yaml").write_text("timezone: nowhere")
    with pytest.raises(SettingsError) as caught:
        load(config="automation.yaml", environment="a b").settings  # noqa: B018
    named = [problem.partition("=")[0] for problem in caught.value.problems]
    assert named == [
        f"environment in {folder / 'defs.yaml'}",
        f"{PREFIX}INTERVAL_SECONDS",
        f"timezone in {folder / 'automation.yaml'}",
    ]


def test_a_file_of_settings_that_is_missing_is_named_with_its_attribute(
    load: Load, folder: Path
) -> None:
    with pytest.raises(SettingsError) as caught:
        load(config="nowhere.yaml").settings  # noqa: B018
    missing = folder / "nowhere.yaml"
    place = f"config in {folder / 'defs.yaml'}"
    assert caught.value.problems == [f"{place}={missing}: there is no such file"]


@pytest.mark.parametrize(
    ("attribute", "value", "template"),
    [
        ("environment", "{{ env.UNSET }}", "environment='{{ env.UNSET }}'"),
        ("environment", "dev_{{ env.UNSET }}", "environment='dev_{{ env.UNSET }}'"),
        ("environment", "{{ env('UNSET') }}", "environment=\"{{ env('UNSET') }}\""),
        # Where nothing is a value too, nothing would be noticed.
        ("gateway", "{{ env.UNSET }}", "gateway='{{ env.UNSET }}'"),
        ("project", "{{ env.UNSET }}/sqlmesh", "project='{{ env.UNSET }}/sqlmesh'"),
        ("executor", "{{ env.UNSET }}", "executor='{{ env.UNSET }}'"),
        ("retry", {"max_attempts": "{{ env.UNSET | int }}"}, "retry.max_attempts='{{ env.UNSET"),
        ("models", {"*": {"group": "{{ env.UNSET }}"}}, "models.*.group='{{ env.UNSET }}'"),
    ],
)
def test_a_template_with_a_variable_that_is_not_set_is_named_with_the_attribute(
    load: Load, attribute: str, value: Any, template: str
) -> None:
    with pytest.raises(ComponentTreeException) as caught:
        load(**{attribute: value})
    message = str(caught.value.__cause__)
    assert f"attribute {template}" in message
    assert "the environment variable UNSET is not set" in message
    assert PREFIX not in message


def test_a_variable_that_is_not_set_may_have_a_default(load: Load) -> None:
    settings = load(
        environment="{{ env.UNSET or 'dev' }}",
        gateway="{{ env('UNSET', none) }}",
        name="{{ env.UNSET | default('ours') }}",
        enabled="{{ env.UNSET == 'prod' }}",
    ).settings
    assert (settings.environment, settings.gateway) == ("dev", None)
    assert (settings.name, settings.enabled) == ("ours", False)


def test_a_translation_with_a_variable_that_is_not_set_is_refused(
    load: Load, example: Path
) -> None:
    component = load(project=str(example), translation={"group_name": "{{ env.UNSET }}"})
    with pytest.raises(ResolutionException, match="variable UNSET is not set"):
        definitions(component)


def test_an_env_var_of_dagster_may_be_an_attribute(
    monkeypatch: pytest.MonkeyPatch, load: Load, folder: Path
) -> None:
    monkeypatch.setenv("SHOP_ENV", "dev")
    assert (
        SQLMeshAutomationComponent(environment=dg.EnvVar("SHOP_ENV")).settings.id == "sqlmesh_dev"
    )

    (folder / "template_vars.py").write_text(ENV_VARS)
    attributes = {"environment": "{{ ours }}", "project": "{{ folder }}"}
    monkeypatch.setenv("FOLDER", "/srv/shop")
    settings = load(template_vars_module=".template_vars", **attributes).settings
    assert (settings.environment, settings.project) == ("dev", Path("/srv/shop"))

    monkeypatch.delenv("SHOP_ENV")
    with pytest.raises(SettingsError) as caught:
        load(template_vars_module=".template_vars", **attributes).settings  # noqa: B018
    place = f"environment=dg.EnvVar('SHOP_ENV') in {folder / 'defs.yaml'}"
    assert str(caught.value).startswith(f"{place} cannot be used: ")


def test_an_attribute_that_does_not_exist_is_refused(load: Load) -> None:
    with pytest.raises(ComponentTreeException) as caught:
        load(intervall_seconds=5)
    assert "intervall_seconds" in str(caught.value.__cause__)


# Assets


def test_it_gives_what_the_function_gives(load: Load, example: Path) -> None:
    ours = definitions(load(project=str(example), enabled=True))
    assert {*ours.resolve_all_asset_keys()} == {
        *Location(AutomationSettings(project=example)).definitions.resolve_all_asset_keys()
    }
    assert ours.executor is sqlmesh_executor
    (sensor,) = ours.sensors or ()
    assert sensor.default_status is dg.DefaultSensorStatus.RUNNING


def test_the_executor_can_be_one_process_for_all_runs(load: Load, example: Path) -> None:
    ours = definitions(load(project=str(example), executor="in_process"))
    assert ours.executor is dg.in_process_executor


def test_the_executor_can_be_left_to_the_project(load: Load, example: Path) -> None:
    assert definitions(load(project=str(example), executor=None)).executor is None


def test_translation_changes_every_asset_with_its_model_at_hand(load: Load, example: Path) -> None:
    found = graph(
        load(
            project=str(example),
            translation={
                "key": "warehouse/{{ model.schema }}/{{ model.table }}",
                "group_name": "{{ 'money' if model.schema == 'sales' else spec.group_name }}",
                "description": "{{ model.kind }}: {{ spec.description }}",
                "tags": {"kind": "{{ model.kind | lower }}"},
                "owners": ["team:data"],
                "metadata": {"file": "{{ model.path }}"},
            },
        )
    )
    orders = found.get(key("warehouse/sales/orders"))
    assert orders.group_name == "money"
    assert orders.owners == ["team:data"]
    assert orders.description is not None
    assert orders.description.startswith("INCREMENTAL")
    assert orders.tags["sqlmesh/environment"] == "prod"
    assert orders.tags["kind"] == "incremental_by_time_range"
    assert orders.metadata["file"] == "models/sales/orders.sql"
    assert "sqlmesh/kind" in orders.metadata
    assert key("warehouse/staging/orders") in orders.parent_keys
    assert found.get(key("warehouse/staging/orders")).group_name == "staging"
    assert key("warehouse/raw/orders") in found.get(key("warehouse/staging/orders")).parent_keys


def test_a_key_prefix_stands_before_the_key(load: Load, example: Path) -> None:
    component = load(
        project=str(example), asset_key_prefix="finance", translation={"key_prefix": "dev"}
    )
    assert key("finance/dev/staging/orders") in graph(component).get_all_asset_keys()


TEMPLATE_VARS = """
import dagster as dg
from dagster_sqlmesh_automation import SqlmeshDue


@dg.template_var
def ours():
    def composed(model, condition):
        if condition is None or "orders" not in model.name:
            return condition
        return condition & dg.AutomationCondition.in_progress()
    return composed


@dg.template_var
def never():
    return SqlmeshDue() & dg.AutomationCondition.in_progress()
"""


@pytest.mark.parametrize(
    ("template", "others"),
    [("{{ ours(model, spec.automation_condition) }}", True), ("{{ never }}", False)],
)
def test_translation_composes_the_condition(
    sandbox: Any,
    folder: Path,
    example: Path,
    instance: dg.DagsterInstance,
    template: str,
    others: bool,
) -> None:
    """Templates have no ``&``. It is asked for the key before the condition is made, too."""
    (folder / "template_vars.py").write_text(TEMPLATE_VARS)
    content = {
        "type": TYPE,
        "template_vars_module": ".template_vars",
        "attributes": {
            "project": str(example),
            "translation": {"automation_condition": template},
        },
    }
    (folder / "defs.yaml").write_text(yaml.safe_dump(content))
    with sandbox.build_component_tree() as tree:
        component = tree.load_component(folder)
    location = Location(component.settings, component.get_translator())
    tick = Automation(example, instance, location).tick(FIRST)
    assert "staging/orders" not in tick.requested
    assert ("staging/payments" in tick.requested) is others


class OurTranslator(SQLMeshComponentTranslator):
    def get_group_name(self, model: ManifestModel) -> str:
        return "ours"


class OurComponent(SQLMeshAutomationComponent):
    """Overrides the translator, and has an attribute of its own."""

    owner: str = "team:nobody"

    def get_translator(self) -> SQLMeshTranslator:
        return OurTranslator(self.translation)


class HardHeaded(SQLMeshAutomationComponent):
    def get_translator(self) -> SQLMeshTranslator:
        return SQLMeshTranslator()


def test_a_subclass_has_its_own_translator_and_attributes(example: Path) -> None:
    component = OurComponent.from_attributes_dict(
        attributes={
            "project": str(example),
            "owner": "team:us",
            "translation": {"description": "{{ spec.group_name }}"},
        }
    )
    assert component.owner == "team:us"
    orders = graph(component).get(key("staging/orders"))
    assert (orders.group_name, orders.description) == ("ours", "ours")


def test_a_translator_that_takes_no_translation_is_refused_with_one(example: Path) -> None:
    attributes = {"project": str(example), "translation": {"group_name": "x"}}
    with pytest.raises(SettingsError, match="SQLMeshTranslator, which HardHeaded"):
        graph(HardHeaded.from_attributes_dict(attributes=attributes))
    assert graph(HardHeaded.from_attributes_dict(attributes={"project": str(example)}))


def test_it_can_be_made_in_python(example: Path) -> None:
    component = SQLMeshAutomationComponent(
        project=example,
        environment="prod",
        translation=lambda spec, model: spec.replace_attributes(group_name=f"x_{model.schema}"),
    )
    assert graph(component).get(key("staging/orders")).group_name == "x_staging"


# A project with several


def test_two_components_live_in_one_project(sandbox: Any, example: Path) -> None:
    """Both bring the same executor, which Dagster takes for one."""
    for environment in ("prod", "dev"):
        sandbox.scaffold_component(
            component_cls=SQLMeshAutomationComponent,
            defs_path=environment,
            scaffold_params={"project_path": str(example)},
            defs_yaml_contents={
                "type": TYPE,
                "attributes": {
                    "project": str(example),
                    "environment": environment,
                    "asset_key_prefix": environment,
                },
            },
        )
    with sandbox.build_all_defs() as found:
        keys = set(found.resolve_all_asset_keys())
        assert {key("prod/staging/orders"), key("dev/staging/orders")} <= keys
        assert found.resolve_implicit_global_asset_job_def().executor_def is sqlmesh_executor


# Scaffolding


def test_a_project_that_is_there_is_named_relative_to_the_root(sandbox: Any, example: Path) -> None:
    made = sandbox.scaffold_component(
        component_cls=SQLMeshAutomationComponent, scaffold_params={"project_path": str(example)}
    )
    content = yaml.safe_load((made / "defs.yaml").read_text())
    assert content["attributes"]["project"].startswith("{{ context.project_root }}/../")
    with sandbox.load_component_and_build_defs(defs_path=made) as (component, found):
        assert component.settings.project.resolve() == example
        assert key("staging/orders") in found.resolve_all_asset_keys()


def test_several_projects_are_named_relative_to_the_root(sandbox: Any, tmp_path: Path) -> None:
    for name in ("sales", "mart"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text(f"project: {name}\n")
    made = sandbox.scaffold_component(
        component_cls=SQLMeshAutomationComponent,
        scaffold_params={"project_path": [str(tmp_path / "sales"), str(tmp_path / "mart")]},
    )
    written = yaml.safe_load((made / "defs.yaml").read_text())["attributes"]["project"]
    assert len(written) == 2
    assert all(path.startswith("{{ context.project_root }}/../") for path in written)
    with sandbox.build_component_tree() as tree:
        found = tree.load_component(made).settings.projects
    assert [path.resolve() for path in found] == [tmp_path / "sales", tmp_path / "mart"]


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({}, "it is not said which SQLMesh project to automate"),
        ({"project_path": "{tmp}/nowhere"}, "No SQLMesh project at"),
        ({"project_path": ["{tmp}", "{tmp}/nowhere"]}, "No SQLMesh project at"),
        ({"project_path": "{tmp}", "init": True}, "is not empty"),
        ({"project_path": ["{tmp}/a", "{tmp}/b"], "init": True}, "--init makes one project"),
    ],
)
def test_scaffolding_is_refused_with_the_cure(
    sandbox: Any, tmp_path: Path, params: dict[str, Any], told: str
) -> None:
    (tmp_path / "something").touch()
    given = json.loads(json.dumps(params).replace("{tmp}", str(tmp_path)))
    with pytest.raises(Exception, match=told):
        sandbox.scaffold_component(
            component_cls=SQLMeshAutomationComponent, scaffold_params=given or None
        )
    assert [path.name for path in tmp_path.iterdir()] == ["something"]


def test_it_loads_without_sqlmesh_and_without_delay() -> None:
    """Dagster imports its components itself, so that ours costs next to nothing."""
    code = (
        "import sys, dagster; before = set(sys.modules); "
        "from dagster_sqlmesh_automation import SQLMeshAutomationComponent; "
        "assert 'sqlmesh' not in sys.modules; "
        "assert not {m for m in set(sys.modules) - before if m.startswith('dagster.components')}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
