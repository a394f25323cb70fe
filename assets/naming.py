"""Names for asset checks, ops, groups, tags and owners, made from SQLMesh's."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence

_LONGEST_CHECK = 100


def check_names(audits: Sequence[tuple[str, Mapping[str, str]]]) -> list[str]:
    """A name for each use of an audit in one model.

    A name depends on that use alone, so adding or moving another audit renames nothing: the
    audit's name, then its arguments. Uses whose names would still be equal get a digest of their
    arguments. Equal uses share a name, as they are one check.

    Args:
        audits: The audits in the model's order: name and arguments as SQL, ``blocking`` left out.

    Returns:
        The names, in the same order, in the characters that Dagster allows.
    """
    slugs = [_check_slug(name, args) for name, args in audits]
    distinct = {
        (name, _spelled(args)): slug for (name, args), slug in zip(audits, slugs, strict=True)
    }
    taken = Counter(distinct.values())
    return [
        slug if taken[slug] == 1 else f"{slug}__{_digest(name + _spelled(args))}"
        for (name, args), slug in zip(audits, slugs, strict=True)
    ]


def op_name(key: Sequence[str]) -> str:
    """The op behind an asset key. The digest keeps ``a.b__c`` and ``a__b.c`` apart."""
    name = "__".join(identifier(part) for part in key)
    plain = all(identifier(part) == part and "__" not in part for part in key)
    return name if plain else f"{name}_{_digest('/'.join(key))}"


def identifier(text: str) -> str:
    """The text with every character that Dagster refuses in a name replaced by ``_``."""
    return re.sub(r"[^A-Za-z0-9_]", "_", text) or "_"


def tag_key(tag: str) -> str:
    """A SQLMesh tag as a Dagster tag key: letters, digits, ``_ - .``, at most 63 characters."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", tag)[:63] or "_"


def owner(name: str) -> str:
    """A SQLMesh owner as Dagster accepts it: an e-mail address as it is, else a team."""
    if re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s]+", name) or name.startswith("team:"):
        return name
    return f"team:{identifier(name)}"


def _check_slug(name: str, args: Mapping[str, str]) -> str:
    parts = [identifier(name)]
    for key, value in args.items():
        words = re.sub(r"[^A-Za-z0-9]+", "_", value).strip("_")
        parts.append(f"{key}_{words}" if words else key)
    slug = "__".join(parts)
    if len(slug) <= _LONGEST_CHECK:
        return slug
    return f"{slug[:_LONGEST_CHECK]}__{_digest(name + _spelled(args))}"


def _spelled(args: Mapping[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in args.items())


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
