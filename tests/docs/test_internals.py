"""Private names of Dagster and SQLMesh stand behind one door each, with a reason and a test."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from support.projects import ROOT

from dagster_sqlmesh_automation.assets import dagster_internals, sqlmesh_internals

SOURCES = [
    path for folder in ("assets", "automation", "config") for path in (ROOT / folder).rglob("*.py")
]
DAGSTER_DOOR = ROOT / "assets" / "dagster_internals.py"
SQLMESH_DOOR = ROOT / "assets" / "sqlmesh_internals.py"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_private_is_used_outside_the_doors(path: Path) -> None:
    tree = ast.parse(path.read_text())
    own = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    own |= {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "self"
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom | ast.Import) and path != DAGSTER_DOOR:
            module = getattr(node, "module", None) or ""
            names = [module, *(name.name for name in node.names)]
            assert not any(name.startswith("dagster._") for name in names), node.lineno
        if (
            isinstance(node, ast.Attribute)
            and node.attr.startswith("_")
            and node.attr[1].islower()
            and path not in (DAGSTER_DOOR, SQLMESH_DOOR)
        ):
            # Of a class in the same file only; ``_replace`` is a named tuple's public method, and
            # ``os._exit`` a public function.
            assert node.attr in {*own, "_replace", "_exit"}, f"{node.attr} at {node.lineno}"


def test_every_private_name_of_dagster_has_a_reason_and_a_test() -> None:
    listed = [name for internal in dagster_internals.INTERNALS for name in internal.names]
    assert sorted(listed) == sorted({*dagster_internals.__all__} - {"INTERNALS"})
    for internal in dagster_internals.INTERNALS:
        assert (ROOT / internal.test).is_file(), internal.test
        assert internal.reason


def test_every_private_name_of_sqlmesh_names_its_test() -> None:
    functions = [
        value
        for name, value in vars(sqlmesh_internals).items()
        if getattr(value, "__module__", "") == sqlmesh_internals.__name__ and name[0] != "_"
    ]
    assert len(functions) >= 6
    for function in functions:
        (test,) = re.findall(r"``(tests/\S+\.py)``", function.__doc__ or "")
        assert (ROOT / test).is_file(), test


def test_the_architecture_shows_the_table() -> None:
    rows = "\n".join(
        f"| {', '.join(f'`{name}`' for name in internal.names)} | {internal.reason} "
        f"| `{internal.test}` |"
        for internal in dagster_internals.INTERNALS
    )
    table = f"| what | what for | the test that notices |\n| --- | --- | --- |\n{rows}\n"
    assert table in (ROOT / "ARCHITECTURE.md").read_text(), f"ARCHITECTURE.md lacks:\n{table}"
