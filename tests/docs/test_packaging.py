"""The package as it is built, installed and imported."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from support.wheel import build_wheel

ROOT = Path(__file__).parents[2]
FOLDERS = ("assets", "automation", "config")


@pytest.mark.slow
def test_the_wheel_holds_every_module_of_the_tree(tmp_path: Path) -> None:
    with zipfile.ZipFile(build_wheel(tmp_path)) as archive:
        built = {name for name in archive.namelist() if ".dist-info/" not in name}
    package = "dagster_sqlmesh_automation"
    expected = {
        *(f"{package}/{path.name}" for path in (ROOT / "src" / package).glob("*.py")),
        f"{package}/py.typed",
        *(
            f"{package}/{path.relative_to(ROOT)}"
            for folder in FOLDERS
            for path in (ROOT / folder).rglob("*.py")
        ),
    }
    assert built == expected


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_links_lead_to_the_folders(folder: str) -> None:
    link = ROOT / "src" / "dagster_sqlmesh_automation" / folder
    assert link.is_symlink()
    assert link.resolve() == ROOT / folder


def test_no_module_imports_the_folders_by_their_top_level_names() -> None:
    banned = re.compile(r"^\s*(?:from|import) (?:assets|automation|config)\b", re.MULTILINE)
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            assert not banned.search(path.read_text()), path


def test_files_stay_small() -> None:
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            assert len(path.read_text().splitlines()) <= 320, path


def test_the_public_names_are_there() -> None:
    code = (
        "import sys; from dagster_sqlmesh_automation import "
        "build_definitions, AutomationSettings, SQLMeshTranslator; "
        "assert 'sqlmesh' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_python_in_the_readme_runs(example: Path, tmp_path: Path) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    code = block.replace("[...]", "[]").replace("/srv/analytics", str(example))
    script = tmp_path / "readme.py"
    script.write_text(
        f"{code}\nassert len(defs.resolve_asset_graph().materializable_asset_keys) == 18\n"
    )
    subprocess.run([sys.executable, str(script)], check=True)


def test_the_readme_names_settings_that_exist_with_their_defaults() -> None:
    from dagster_sqlmesh_automation import AutomationSettings

    rows = re.findall(
        r"^\| `SQLMESH_AUTOMATION_(\w+)` \| (.+?) \|",
        (ROOT / "README.md").read_text(),
        re.MULTILINE,
    )
    assert len(rows) >= 10
    for name, default in rows:
        value: object = AutomationSettings
        for part in name.lower().split("__"):
            field = value.model_fields[part]  # type: ignore[attr-defined]
            value = field.default
        if isinstance(value, bool | int | str):
            assert default == f"`{str(value).lower()}`" or str(value) in default
