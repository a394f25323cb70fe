"""The command line as tests call it, and the JSON schema of what ``tick --json`` prints."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from jsonschema import Draft202012Validator, FormatChecker

from dagster_sqlmesh_automation.automation.cli.main import main

from . import counting

SCRIPT = Path(sys.executable).parent / "sqlmesh-automation"

OUTCOMES = ["executed", "up_to_date", "not_ready", "failed", "audit_failed", "skipped", "cancelled"]

_TEXT = {"type": "string", "minLength": 1}
_MOMENT = {"type": "string", "format": "date-time"}
_COUNT = {"type": ["integer", "null"], "minimum": 0}


def _object(properties: dict[str, Any], **more: Any) -> dict[str, Any]:
    """An object with exactly these keys."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
        **more,
    }


def _when(condition: dict[str, Any], then: dict[str, Any]) -> dict[str, Any]:
    """Properties that hold where other properties do."""
    return {"if": {"properties": condition}, "then": {"properties": then}}


_CHECK = _object(
    {"name": _TEXT, "passed": {"type": "boolean"}, "blocking": {"type": "boolean"}},
)

_MODEL = _object(
    {
        "model": _TEXT,
        "asset_key": {"type": "string", "pattern": "^[^/]+(/[^/]+)+$"},
        "due": {"type": "boolean"},
        "requested": {"type": "boolean"},
        "reason": _TEXT,
        "outcome": {"enum": [*OUTCOMES, None]},
        "intervals": {
            "type": "array",
            "items": {
                "type": "array",
                "prefixItems": [_MOMENT, _MOMENT],
                "items": False,
                "minItems": 2,
            },
        },
        "rows": _COUNT,
        "duration_ms": _COUNT,
        "checks": {"type": "array", "items": _CHECK},
        "error": {"type": ["string", "null"], "minLength": 1},
    },
    allOf=[
        _when({"requested": {"const": True}}, {"due": {"const": True}}),
        _when({"outcome": {"const": "executed"}}, {"intervals": {"minItems": 1}}),
        _when({"outcome": {"enum": ["failed", "audit_failed"]}}, {"error": {"type": "string"}}),
        _when(
            {"outcome": {"enum": ["executed", "up_to_date", "not_ready"]}},
            {"error": {"type": "null"}},
        ),
        # What fails before a run can try it.
        _when(
            {"outcome": {"const": None}, "reason": {"not": {"pattern": "^failed: "}}},
            {"error": {"type": "null"}},
        ),
        _when(
            {"outcome": {"const": None}},
            {"rows": {"type": "null"}, "duration_ms": {"type": "null"}},
        ),
        _when({"outcome": {"const": None}, "due": {"const": True}}, {"intervals": {"minItems": 1}}),
        _when(
            {"outcome": {"const": None}, "due": {"const": False}}, {"intervals": {"maxItems": 0}}
        ),
    ],
)

TICK = _object(
    {
        "environment": _TEXT,
        "at": _MOMENT,
        "run_id": {"type": ["string", "null"], "format": "uuid", "minLength": 1},
        "executions": {"enum": [0, 1]},
        "models": {"type": "array", "items": _MODEL, "uniqueItems": True},
    },
    allOf=[
        _when(
            {"run_id": {"type": "null"}},
            {
                "executions": {"const": 0},
                "models": {"items": {"properties": {"outcome": {"const": None}}}},
            },
        ),
    ],
)

# jsonschema's own "date-time" needs a package of its own and accepts everything without it.
_FORMATS = FormatChecker(formats=["uuid"])
_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


@_FORMATS.checks("date-time", raises=ValueError)
def _is_moment(value: object) -> bool:
    if not isinstance(value, str):
        return True
    return bool(_RFC_3339.fullmatch(value)) and datetime.fromisoformat(value).tzinfo is not None


def problems(document: Any) -> list[str]:
    """Where a document does not follow :data:`TICK`, one line each."""
    Draft202012Validator.check_schema(TICK)
    errors = Draft202012Validator(TICK, format_checker=_FORMATS).iter_errors(document)
    return [f"{error.json_path}: {error.message}" for error in errors]


@dataclass(frozen=True)
class Called:
    """A process of the command line that has ended."""

    project: Path
    home: Path | None
    code: int
    stdout: str
    stderr: str
    executions: int

    @property
    def document(self) -> Any:
        return json.loads(self.stdout)

    @property
    def models(self) -> dict[str, Any]:
        return {model["model"]: model for model in self.document["models"]}


def call(project: Path, home: Path | None, at: str, **variables: str) -> Called:
    """``tick --json`` by the installed command, in a process whose executions are counted."""
    log = project.parent / "executions.log"
    foreign = ("SQLMESH", "JAFFLE_SHOP_", "DAGSTER", "PYTHONPATH")
    done = subprocess.run(
        [SCRIPT, "tick", "--json", "--at", at],
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith(foreign)},
            **({"DAGSTER_HOME": str(home)} if home else {}),
            "SQLMESH_AUTOMATION_PROJECT": str(project),
            "PYTHONPATH": str(counting.HOOK),
            counting.LOG_VARIABLE: str(log),
            **variables,
        },
        cwd=project.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return Called(project, home, done.returncode, done.stdout, done.stderr, counting.count(log))


def invoke(*arguments: str | Path, **variables: str | Path) -> Result:
    """Runs the command line in this process."""
    environment = {name: str(value) for name, value in variables.items()}
    try:
        return CliRunner(env={"COLUMNS": "400", **environment}).invoke(
            main, [str(argument) for argument in arguments]
        )
    finally:
        logging.disable(logging.NOTSET)  # what the command switches off is off for the process


def tick_json(project: Path, *arguments: str, **variables: str | Path) -> Any:
    """A successful ``tick --json`` in this process."""
    result = invoke("tick", "--json", "--project", project, *arguments, **variables)
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert problems(document) == []
    return document


@contextmanager
def held_open(database: Path) -> Iterator[int]:
    """Another process has the database open; its process id."""
    hold = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('held'); sys.stdin.read()"
    command = [sys.executable, "-uc", hold, str(database)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        yield holder.pid  # leaving closes the holder's stdin, which ends it
