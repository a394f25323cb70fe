"""The manifest: reused while nothing changes, rebuilt when anything does, never half written."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import stat
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
    MARK,
    Manifest,
    sealed,
)
from dagster_sqlmesh_automation.assets.project.manifest_file import manifest_path, prepare
from dagster_sqlmesh_automation.assets.project.opening import load_manifest
from dagster_sqlmesh_automation.automation.definitions import Location
from dagster_sqlmesh_automation.config.errors import ManifestFileTaken, ProjectInvalid
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
    assert Manifest.from_json(loaded.to_json().encode()) == loaded
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


Change = Callable[[dict[str, Any]], Any]


def without(field: str) -> Change:
    return lambda facts: {name: value for name, value in facts.items() if name != field}


def first_model(change: Change) -> Change:
    return lambda facts: {**facts, "models": [change(facts["models"][0]), *facts["models"][1:]]}


def with_value(field: str, value: Any) -> Change:
    return lambda facts: {**facts, field: value}


def nested(facts: dict[str, Any]) -> str:
    return json.dumps(facts).replace('"models":', '"models":' + "[" * 100_000, 1)


def built_anew_once(preparing: Preparing, caplog: pytest.LogCaptureFixture) -> bool:
    """Whether the file is not believed, one line says so, and the next one is."""
    caplog.clear()
    caplog.set_level(logging.WARNING)
    again = preparing.loads_again()
    lines = [record.getMessage() for record in caplog.records]
    told = len(lines) == 1 and f"The manifest {preparing.file} cannot be used" in lines[0]
    return again and told and "\n" not in lines[0] and not preparing.loads_again()


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(without("gateway"), id="no gateway"),
        pytest.param(without("models"), id="no models"),
        pytest.param(with_value("more", 1), id="an unknown field"),
        pytest.param(with_value("models", 1), id="models that are no list"),
        pytest.param(with_value("models", [1]), id="a model that is no object"),
        pytest.param(first_model(without("cron")), id="a model without a cron"),
        pytest.param(first_model(without("audits")), id="a model without audits"),
        pytest.param(first_model(with_value("tags", [1])), id="a tag that is a number"),
        pytest.param(first_model(with_value("tags", "ab")), id="tags that are a text"),
        pytest.param(first_model(with_value("line", "1")), id="a line that is a text"),
        pytest.param(first_model(with_value("depends_on", ['"x"'])), id="an unknown dependency"),
        pytest.param(first_model(with_value("columns", [["INT"]])), id="half a column"),
        pytest.param(lambda facts: {**facts, "models": facts["models"] * 2}, id="models twice"),
        pytest.param(
            lambda facts: {**facts, "models": facts["models"][::-1]}, id="models out of order"
        ),
        pytest.param(lambda facts: [facts], id="a list"),
        pytest.param(lambda facts: None, id="null"),
        pytest.param(nested, id="nested deeper than Python goes"),
    ],
)
def test_facts_of_another_shape_are_not_believed_even_with_the_right_digest(
    preparing: Preparing, caplog: pytest.LogCaptureFixture, change: Change
) -> None:
    changed = change(json.loads(preparing.file.read_text())["facts"])
    facts = changed if isinstance(changed, str) else json.dumps(changed)
    preparing.file.write_text(sealed(facts))
    assert built_anew_once(preparing, caplog)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda text: text.replace("extra.numbers", "extra.letters"), id="a name"),
        pytest.param(
            lambda text: text.replace(json.dumps(json.loads(text)["facts"]["models"]), "[]"),
            id="no models",
        ),
        pytest.param(lambda text: text + " ", id="a space at the end"),
        pytest.param(lambda text: text.replace('"sha256":"', '"sha256":"0'), id="the digest"),
        pytest.param(
            lambda text: text.replace(f":{FORMAT},", f":{FORMAT + 1},", 1), id="a newer format"
        ),
    ],
)
def test_facts_that_were_altered_are_not_believed(
    preparing: Preparing, caplog: pytest.LogCaptureFixture, change: Callable[[str], str]
) -> None:
    # As prepare writes it, but with the spaces that json.dumps puts, for the second change above.
    content = json.loads(preparing.file.read_text())
    text = sealed(json.dumps(content["facts"]))
    preparing.file.write_text(text)
    assert not preparing.loads_again()
    altered = change(text)
    assert altered != text
    preparing.file.write_text(altered)
    assert built_anew_once(preparing, caplog)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda content: content[: len(content) // 2], id="half of it"),
        pytest.param(lambda content: content[:-1], id="all but the last byte"),
        pytest.param(lambda content: MARK, id="nothing but its mark"),
        pytest.param(lambda content: MARK + b"\xff\xfe" + content, id="not UTF-8"),
    ],
)
def test_it_is_rebuilt_with_a_warning_when_the_file_is_damaged(
    preparing: Preparing, caplog: pytest.LogCaptureFixture, damage: Callable[[bytes], bytes]
) -> None:
    preparing.file.write_bytes(damage(preparing.file.read_bytes()))
    assert built_anew_once(preparing, caplog)


def test_an_empty_file_is_taken_for_none(preparing: Preparing) -> None:
    preparing.file.write_bytes(b"")
    assert preparing.loads_again()
    assert not preparing.loads_again()


def test_a_file_of_gigabytes_is_neither_read_nor_believed(
    preparing: Preparing, caplog: pytest.LogCaptureFixture
) -> None:
    with preparing.file.open("r+b") as file:
        file.truncate(1024**4)  # a sparse one; to read it would end in a MemoryError
    assert built_anew_once(preparing, caplog)


def test_a_project_that_no_longer_loads_is_an_error_and_leaves_the_file(
    preparing: Preparing,
) -> None:
    before = preparing.file.read_bytes()
    add("models/broken.sql", "MODEL (name a.b, kind NONE);\nSELECT 1 AS id\n")(preparing.project)
    with pytest.raises(ProjectInvalid, match=r"broken\.sql"):
        preparing()
    assert preparing.file.read_bytes() == before


# Writing


@pytest.mark.parametrize("place", ["file/manifest.json", "loop/manifest.json"])
def test_a_place_that_cannot_be_written_is_a_warning(
    preparing: Preparing, tmp_path: Path, caplog: pytest.LogCaptureFixture, place: str
) -> None:
    # For root no folder is read-only; below a file, or a link to itself, nobody can write.
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    before = sorted(tmp_path.rglob("*"))
    caplog.set_level(logging.WARNING)

    manifest = preparing(manifest=tmp_path / place)

    assert manifest == preparing()
    assert f"at {tmp_path / place} (" in caplog.text
    assert "SQLMESH_AUTOMATION_MANIFEST" in caplog.text
    assert sorted(tmp_path.rglob("*")) == before


def link(place: Path) -> None:
    place.with_name("target.json").write_text("{}")
    place.symlink_to(place.with_name("target.json"))


OTHERS = {
    "a manifest of dbt's": lambda place: place.write_text('{"metadata": {}, "nodes": {}}'),
    "a configuration": lambda place: place.write_text("model_defaults: {dialect: duckdb}"),
    "a folder": lambda place: place.mkdir(),
    "a link": link,
    "a link to nothing": lambda place: place.symlink_to(place.with_name("nothing")),
    "a pipe": os.mkfifo,
    "a socket": lambda place: os.mknod(place, 0o600 | stat.S_IFSOCK),
}


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("make", OTHERS.values(), ids=OTHERS)
def test_what_is_no_manifest_is_an_error_and_left_as_it_is(
    preparing: Preparing, tmp_path: Path, make: Callable[[Path], None], force: bool
) -> None:
    place = tmp_path / "place"
    make(place)

    def state() -> object:
        listing = {path: path.lstat()[:7] for path in tmp_path.iterdir()}
        return listing, place.read_bytes() if place.is_file() else None

    before = state()
    with pytest.raises(ManifestFileTaken, match="Set SQLMESH_AUTOMATION_MANIFEST to a") as caught:
        preparing(manifest=place, force=force)
    assert str(place) in str(caught.value)
    assert state() == before
    assert preparing.loads == 1


def test_a_device_is_no_manifest(preparing: Preparing) -> None:
    with pytest.raises(ManifestFileTaken, match="'/dev/null' is a device"):
        preparing(manifest=Path("/dev/null"))
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_what_lies_at_the_default_place_is_replaced_because_the_folder_is_ours(
    preparing: Preparing, caplog: pytest.LogCaptureFixture
) -> None:
    preparing.settings = AutomationSettings(project=preparing.project)
    preparing.file.parent.mkdir(parents=True)
    os.mkfifo(preparing.file)
    assert built_anew_once(preparing, caplog)
    preparing.file.write_text("garbage")
    assert built_anew_once(preparing, caplog)


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_the_umask_says_who_may_read_the_file(preparing: Preparing, umask: int, mode: int) -> None:
    preparing.file.unlink()
    before = os.umask(umask)
    try:
        preparing()
    finally:
        os.umask(before)
    assert stat.S_IMODE(preparing.file.stat().st_mode) == mode


REWRITE = """
import dataclasses, sys
from pathlib import Path
from dagster_sqlmesh_automation.assets.project.manifest import Manifest
from dagster_sqlmesh_automation.assets.project.manifest_file import prepare
from dagster_sqlmesh_automation.config.settings import AutomationSettings

settings = AutomationSettings(project=sys.argv[1], manifest=sys.argv[2])
manifest = Manifest.from_json(Path(sys.argv[2]).read_bytes())
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
            manifest = Manifest.from_json(preparing.file.read_bytes())  # raises when damaged
            assert manifest.models == many.models
            seen.add(manifest.gateway)

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
