"""Asset keys of tables that are made outside SQLMesh, from a template such as ``raw/{name}``."""

from __future__ import annotations

import re
from string import Formatter
from typing import Annotated

from pydantic import AfterValidator

_PARTS = ("catalog", "schema", "name")
_ACCEPTED = (
    "an asset key with / between its parts, and {catalog}, {schema} and {name} for those of the "
    "table, such as raw/{schema}/{name}"
)


def external_key(template: str, catalog: str, schema: str, name: str) -> tuple[str, ...]:
    """Returns the parts of a table's asset key, without those that are empty.

    Args:
        template: A template that :data:`ExternalKey` accepts.
        catalog: The table's catalog; empty on an engine that has none.
        schema: The table's schema.
        name: The table's own name.
    """
    filled = template.format(catalog=catalog, schema=schema, name=name)
    return tuple(part for part in filled.split("/") if part)


def _checked(template: str) -> str:
    try:
        fields = list(Formatter().parse(template))
    except ValueError as error:
        raise ValueError(f"{_ACCEPTED} ({error})") from None
    text = "".join(literal for literal, *_ in fields)
    plain = all(
        field is None or (field in _PARTS and not spec and not conversion)
        for _, field, spec, conversion in fields
    )
    if not plain or not template.strip("/") or not re.fullmatch(r"[A-Za-z0-9_/-]*", text):
        raise ValueError(_ACCEPTED)
    return template


ExternalKey = Annotated[str, AfterValidator(_checked)]
"""A template of asset keys."""
