"""Names for asset checks, ops, groups, tags and owners, made from SQLMesh's."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence

_LONGEST_CHECK = 80


def check_name(audit: str, args: Mapping[str, str]) -> str:
    """The asset check of one use of an audit.

    Depends on that use alone, so adding or moving another audit renames nothing. Arguments are
    spelled out for people, as far as they go, and told apart by a digest.

    Args:
        audit: The audit's name.
        args: The audit's arguments as SQL, without ``blocking``.

    Returns:
        A name in the characters that Dagster allows, such as ``not_null__columns_id_1a2b3c``.
    """
    if not args:
        return identifier(audit)
    parts = [identifier(audit)]
    for key, value in args.items():
        words = re.sub(r"[^A-Za-z0-9]+", "_", value).strip("_")
        parts.append(identifier(f"{key}_{words}" if words else key))
    spelled = json.dumps([audit, *args.items()])
    return f"{'__'.join(parts)[:_LONGEST_CHECK]}_{_digest(spelled)[:6]}"


def op_name(key: Sequence[str]) -> str:
    """The op behind an asset key. The digest keeps ``a.b__c`` and ``a__b.c`` apart."""
    name = "__".join(identifier(part) for part in key)
    plain = all(re.fullmatch(r"[A-Za-z0-9]+(_[A-Za-z0-9]+)*", part) for part in key)
    return name if plain else f"{name}_{_digest(json.dumps(list(key)))}"


def key_part(name: str) -> str:
    """One part of an asset key: the name, but for characters that Dagster's outputs refuse."""
    plain = re.fullmatch(r"[A-Za-z0-9_-]+", name)
    return name if plain else f"{identifier(name)}_{_digest(name)[:6]}"


def identifier(text: str) -> str:
    """The text with every character that Dagster refuses in a name replaced by ``_``."""
    return re.sub(r"[^A-Za-z0-9_]", "_", text) or "_"


def tag_key(tag: str) -> str:
    """A SQLMesh tag as a Dagster tag key: letters, digits, ``_ - .``, at most 63 characters."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", tag)[:63] or "_"


def owner(name: str) -> str:
    """A SQLMesh owner as Dagster accepts it: an e-mail address as it is, else a team."""
    if re.fullmatch(r"[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,7}", name):
        return name
    return f"team:{identifier(name.removeprefix('team:'))}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
