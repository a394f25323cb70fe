"""The manifest: reused while nothing changes, rebuilt when anything does, never half written."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest
from generator import Design, generate_project

from dagster_sqlmesh_automation.assets.project import fingerprint
from dagster_sqlmesh_automation.assets.project.manifest import (
    FORMAT,
    Manifest,
    manifest_path,
    prepare,
)
from dagster_sqlmesh_automation.assets.project.opening import load_manifest
from dagster_sqlmesh_automation.automation.definitions import Location
from dagster_sqlmesh_automation.config.errors import ProjectInvalid
from dagster_sqlmesh_automation.config.settings import AutomationSettings

MODEL = "MODEL (name extra.model, kind FULL);\nSELECT 1 AS id\n"


class Preparing:
    """``prepare`` on a small project, with a count of how often it loaded the project."""

    def __init__(self, project: Path) -> None:
        self.project = project
        # One file for all settings: by default each environment and gateway has its own.
        self.settings = AutomationSettings(project=project, manifest=project.with_suffix(".json"))
        self.loads = 0

    @property
    def file(self) -> Path:
        return manifest_path(self.settings)

    def __call__(self, *, force: bool = False, **changes: Any) -> Manifest:
        settings = self.settings.model_copy(update=changes)
        return prepare(settings, self._load, force=force)

    def loads_again(self, **changes: Any) -> bool:
        before = self.loads
        self(**changes)
        return self.loads > before

    def _load(self, settings: AutomationSettings, digest: str) -> Manifest:
        self.loads += 1
        return load_manifest(settings, digest)


@pytest.fixture
def preparing(tmp_path: Path) -> Preparing:
    """A project of three models that has been prepared once."""
    project = tmp_path / "project"
    generate_project(project, 3, Design(extras=()))
    (project / "seeds").mkdir()
    (project / "seeds" / "numbers.csv").write_text("id\n1\n")
    (project / "models" / "seed.sql").write_text(
        "MODEL (name extra.numbers, kind SEED (path '../seeds/numbers.csv'), columns (id INT));\n"
    )
    config = project / "config.yaml"
    config.write_text(
        config.read_text() + "variables: {region: \"{{ env_var('REGION', 'eu') }}\"}\n"
    )
    preparing = Preparing(project)
    preparing()
    assert preparing.loads == 1
    return preparing


def add(file: str, text: str) -> Callable[[Path], None]:
    """A change: more text at the end of a file, which may be new."""

    def change(project: Path) -> None:
        path = project / file
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as opened:
            opened.write(text)

    return change


# Reuse


def test_it_is_reused_while_nothing_changes(preparing: Preparing) -> None:
    first = preparing()
    assert preparing() == first
    assert preparing.loads == 1


def test_force_loads_the_project_in_any_case(preparing: Preparing) -> None:
    preparing(force=True)
    assert preparing.loads == 2


def test_a_manifest_that_is_kept_in_the_project_is_not_one_of_its_own_sources(
    preparing: Preparing,
) -> None:
    inside = preparing.project / "manifest.json"
    assert preparing.loads_again(manifest=inside)
    assert not preparing.loads_again(manifest=inside)


def test_what_is_read_equals_what_was_loaded(example: Path) -> None:
    settings = AutomationSettings(project=example)
    loaded = prepare(settings, load_manifest)

    def refuse(*_: Any) -> Manifest:
        raise AssertionError("the project is loaded again")

    assert prepare(settings, refuse) == loaded
    assert Manifest.from_json(loaded.to_json()) == loaded
    names = {model.name for model in loaded.executed}
    assert len(names) == 18
    assert "core.order_totals" not in names  # embedded
    assert [audit.name for audit in loaded.standalone_audits] == ["assert_every_order_has_payment"]


def test_each_environment_and_gateway_has_a_file_of_its_own(tmp_path: Path) -> None:
    settings = [
        AutomationSettings(project=tmp_path, environment=environment, gateway=gateway)
        for environment in ("prod", "dev")
        for gateway in (None, "second")
    ]
    assert len({manifest_path(each) for each in settings}) == 4


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda project: os.utime(project / "config.yaml", (1, 1)), id="a file's time"),
        pytest.param(add("README.md", "read me"), id="a file that SQLMesh does not read"),
        pytest.param(add("logs/sqlmesh.yaml", "x: 1"), id="SQLMesh's logs"),
        pytest.param(add(".cache/x.sql", "SELECT 1"), id="SQLMesh's cache"),
        pytest.param(add("warehouse.duckdb.wal", "x"), id="the database"),
    ],
)
def test_what_a_manifest_is_not_made_from_does_not_count(
    preparing: Preparing, change: Callable[[Path], None]
) -> None:
    change(preparing.project)
    assert not preparing.loads_again()


def test_variables_that_nothing_names_do_not_count(
    preparing: Preparing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_OTHER_VARIABLE", "1")
    # Set by this package itself when it imports SQLMesh, so a new process starts without them.
    monkeypatch.delenv("SQLMESH__DISABLE_ANONYMIZED_ANALYTICS", raising=False)
    monkeypatch.delenv("MAX_FORK_WORKERS", raising=False)
    assert not preparing.loads_again()


# Rebuilding


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(add("models/model_0.sql", "-- changed\n"), id="a model is changed"),
        pytest.param(add("models/added.sql", MODEL), id="a model is added"),
        pytest.param(
            lambda project: (project / "models/model_2.sql").unlink(), id="one is removed"
        ),
        pytest.param(
            lambda project: (project / "models/model_2.sql").rename(project / "models/new.sql"),
            id="one is renamed",
        ),
        pytest.param(add("config.yaml", "project: other\n"), id="the configuration"),
        pytest.param(add("signals/__init__.py", "# changed\n"), id="a signal"),
        pytest.param(add("macros/new.py", "# new\n"), id="a macro"),
        pytest.param(add("seeds/numbers.csv", "2\n"), id="the data of a seed"),
        pytest.param(add(".env", "REGION=us\n"), id="the .env file"),
    ],
)
def test_it_is_rebuilt_when_a_source_changes(
    preparing: Preparing, change: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGION", "")  # SQLMesh sets what .env says: have it taken back
    monkeypatch.delenv("REGION")
    change(preparing.project)
    assert preparing.loads_again()
    assert not preparing.loads_again()


@pytest.mark.parametrize("folder", ["models", "models/logs", "models/target"])
def test_a_rebuilt_manifest_has_the_new_facts(preparing: Preparing, folder: str) -> None:
    add(f"{folder}/added.sql", MODEL)(preparing.project)
    assert "extra.model" in {model.name for model in preparing().models}
    (preparing.project / folder / "added.sql").unlink()
    assert "extra.model" not in {model.name for model in preparing().models}


@pytest.mark.parametrize("change", [{"gateway": "main"}, {"environment": "dev"}])
def test_it_is_rebuilt_when_a_setting_changes(preparing: Preparing, change: dict[str, str]) -> None:
    assert preparing.loads_again(**change)
    assert not preparing.loads_again(**change)


@pytest.mark.parametrize("variable", ["REGION", "DB", "SQLMESH__DEFAULT_GATEWAY"])
def test_it_is_rebuilt_when_a_variable_changes_that_the_configuration_reads(
    preparing: Preparing, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    add("config.yaml", "# {{ env_var('DB', 'x') }}\n")(preparing.project)
    preparing()
    monkeypatch.setenv(variable, "main")
    assert preparing.loads_again()
    assert not preparing.loads_again()
    monkeypatch.delenv(variable)
    assert preparing.loads_again()


@pytest.mark.parametrize("package", ["dagster-sqlmesh-automation", "sqlmesh", "sqlglot"])
def test_it_is_rebuilt_for_another_version_of_a_package(
    preparing: Preparing, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    version = fingerprint.version
    monkeypatch.setattr(
        fingerprint, "version", lambda name: "999" if name == package else version(name)
    )
    assert preparing.loads_again()


def without(field: str) -> Callable[[dict[str, Any]], Any]:
    return lambda content: {name: value for name, value in content.items() if name != field}


def model_without(field: str) -> Callable[[dict[str, Any]], Any]:
    return lambda content: {**content, "models": [without(field)(m) for m in content["models"]]}


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda content: {**content, "format": FORMAT + 1}, id="a newer format"),
        pytest.param(without("format"), id="no format"),
        pytest.param(without("gateway"), id="no gateway"),
        pytest.param(without("models"), id="no models"),
        pytest.param(lambda content: {**content, "more": 1}, id="an unknown field"),
        pytest.param(lambda content: {**content, "models": 1}, id="models that are no list"),
        pytest.param(lambda content: {**content, "models": [1]}, id="a model that is no object"),
        pytest.param(model_without("cron"), id="a model without a cron"),
        pytest.param(model_without("audits"), id="a model without audits"),
        pytest.param(lambda content: [content], id="a list"),
        pytest.param(lambda content: None, id="null"),
    ],
)
def test_it_is_rebuilt_when_the_file_is_of_another_layout(
    preparing: Preparing, change: Callable[[dict[str, Any]], Any]
) -> None:
    preparing.file.write_text(json.dumps(change(json.loads(preparing.file.read_text()))))
    assert preparing.loads_again()
    assert not preparing.loads_again()


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda content: b"", id="empty"),
        pytest.param(lambda content: content[: len(content) // 2], id="half of it"),
        pytest.param(lambda content: content[:-1], id="all but the last byte"),
        pytest.param(lambda content: b"\xff\xfe" + content, id="not UTF-8"),
        pytest.param(lambda content: b"garbage", id="garbage"),
    ],
)
def test_it_is_rebuilt_with_a_warning_when_the_file_is_damaged(
    preparing: Preparing, caplog: pytest.LogCaptureFixture, damage: Callable[[bytes], bytes]
) -> None:
    preparing.file.write_bytes(damage(preparing.file.read_bytes()))
    assert preparing.loads_again()
    assert f"The manifest {preparing.file} cannot be used" in caplog.text
    assert not preparing.loads_again()


def test_a_project_that_no_longer_loads_is_an_error_and_leaves_the_file(
    preparing: Preparing,
) -> None:
    before = preparing.file.read_bytes()
    add("models/broken.sql", "MODEL (name a.b, kind NONE);\nSELECT 1 AS id\n")(preparing.project)
    with pytest.raises(ProjectInvalid, match=r"broken\.sql"):
        preparing()
    assert preparing.file.read_bytes() == before


# Writing


@pytest.mark.parametrize("place", ["file/manifest.json", "folder"])
def test_a_place_that_cannot_be_written_is_a_warning(
    preparing: Preparing, tmp_path: Path, caplog: pytest.LogCaptureFixture, place: str
) -> None:
    # For root no folder is read-only; below a file, or in place of a folder, nobody can write.
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    before = sorted(tmp_path.rglob("*"))
    caplog.set_level(logging.WARNING)

    manifest = preparing(manifest=tmp_path / place)

    assert manifest == preparing()
    assert f"cannot be kept at {tmp_path / place}" in caplog.text
    assert "SQLMESH_AUTOMATION_MANIFEST" in caplog.text
    assert sorted(tmp_path.rglob("*")) == before


REWRITE = """
import dataclasses, sys
from pathlib import Path
from dagster_sqlmesh_automation.assets.project.manifest import Manifest, prepare
from dagster_sqlmesh_automation.config.settings import AutomationSettings

settings = AutomationSettings(project=sys.argv[1], manifest=sys.argv[2])
manifest = Manifest.from_json(Path(sys.argv[2]).read_text())
print("ready", flush=True)
for number in range(200):
    changed = dataclasses.replace(manifest, gateway="ab"[number % 2] * (number % 7 + 1))
    prepare(settings, lambda settings, fingerprint: changed, force=True)
"""


def test_a_reader_never_sees_a_half_written_file(preparing: Preparing) -> None:
    manifest = preparing()
    many = dataclasses.replace(
        manifest,
        gateway="first",
        models=tuple(
            dataclasses.replace(manifest.models[0], fqn=f'"model_{number}"')
            for number in range(100)
        ),
    )
    preparing.file.write_text(many.to_json())
    command = [sys.executable, "-c", REWRITE, str(preparing.project), str(preparing.file)]
    seen = set()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        while writer.poll() is None:
            found = Manifest.from_json(preparing.file.read_text())  # raises when it is damaged
            assert found.models == many.models
            seen.add(found.gateway)

    assert writer.returncode == 0
    assert len(seen) > 5
    left = [path for path in preparing.file.parent.iterdir() if path != preparing.project]
    assert left == [preparing.file]


# Definitions

LOAD = """
import json, sys
from dagster_sqlmesh_automation.definitions import defs

keys = sorted(key.to_user_string() for key in defs.resolve_all_asset_keys())
sensors = [sensor.name for sensor in defs.sensors]
heavy = sorted({"sqlmesh", "sqlglot", "duckdb", "pandas"} & set(sys.modules))
print(json.dumps([keys, sensors, heavy]))
"""


def test_definitions_load_in_a_new_process_without_sqlmesh_and_without_the_database(
    example: Path,
) -> None:
    location = Location(AutomationSettings(project=example))
    before = manifest_path(location.settings).stat()
    with duckdb.connect(str(example / "jaffle_shop.duckdb")):  # nobody else can open it now
        done = subprocess.run(
            [sys.executable, "-c", LOAD],
            env={**os.environ, "SQLMESH_AUTOMATION_PROJECT": str(example)},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    keys, sensors, heavy = json.loads(done.stdout)

    assert heavy == []
    assert keys == sorted(
        key.to_user_string() for key in location.definitions.resolve_all_asset_keys()
    )
    assert sensors == ["sqlmesh_prod_automation"]
    assert manifest_path(location.settings).stat().st_ino == before.st_ino
