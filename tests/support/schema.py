"""JSON schema of what ``sqlmesh-automation tick --json`` prints: the contract of DESIGN.md."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker

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
            {"outcome": {"enum": ["executed", "up_to_date", "not_ready", None]}},
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
