"""Statements before and after all models that count themselves and can be told to fail."""

from __future__ import annotations

from pathlib import Path

import yaml

from .projects import plan
from .warehouse import PLANNED_AT, Warehouse

RAW = ("CREATE TABLE raw.statements (stage TEXT, passed INT)",)
"""The table that they write to; for :func:`.warehouse`."""

_LINGER = """
import time
from pathlib import Path

from sqlmesh import macro


@macro()
def linger(evaluator):
    gate = Path("{gate}")
    if gate.exists():
        (gate / "reached").touch()
        while not (gate / "open").exists():
            time.sleep(0.02)
    return "SELECT 1"
"""


def statement(stage: str) -> str:
    """It fails where the control table names the stage (:meth:`.Warehouse.fail`)."""
    return (
        f"INSERT INTO raw.statements SELECT '{stage}', CAST(CASE WHEN EXISTS (SELECT 1 FROM "
        f"raw.control WHERE model = '{stage}') THEN 'told to fail' ELSE '1' END AS INT)"
    )


def add_statements(shop: Warehouse, *stages: str) -> None:
    """Plans a project with statements of these stages, ``before_all`` or ``after_all``."""
    _plan(shop, {stage: [statement(stage)] for stage in stages})
    shop.query("DELETE FROM raw.statements")


def linger(shop: Warehouse, stage: str) -> Path:
    """Plans a project that stops at a gate in a stage; returns the gate's folder.

    While it is there, it makes ``reached`` in it and waits for ``open``.
    """
    gate = shop.project / "gate" / stage
    (shop.project / "macros").mkdir()
    (shop.project / "macros" / "linger.py").write_text(_LINGER.format(gate=gate))
    _plan(shop, {stage: ["@linger()"]})
    gate.mkdir(parents=True)
    return gate


def _plan(shop: Warehouse, statements: dict[str, list[str]]) -> None:
    config = shop.project / "config.yaml"
    config.write_text(config.read_text() + yaml.safe_dump(statements))
    plan(shop.project, PLANNED_AT)


def executed(shop: Warehouse, stage: str) -> int:
    """How often a stage's statement has been executed with success since the plan."""
    ((count,),) = shop.query(f"SELECT COUNT(*) FROM raw.statements WHERE stage = '{stage}'")
    return int(count)
