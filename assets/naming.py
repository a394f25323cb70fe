"""Names for asset checks, ops, groups, tags and owners, made from SQLMesh's."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence

ENVIRONMENT_CHECK = "sqlmesh_environment"
"""Names the check of every model that tells whether it is as the environment has it."""

_LONGEST_CHECK = 80
_SUBJECTS = frozenset({"column", "columns", "criteria"})
_OPERATORS = (
    *((sign, " ") for sign in ("->>", "->", "=>")),
    *((sign, f" {word} ") for sign, word in (("<>", "ne"), ("!=", "ne"), (">=", "ge"))),
    *((sign, f" {word} ") for sign, word in (("<=", "le"), (">", "gt"), ("<", "lt"), ("=", "eq"))),
)


def audit_use(audit: str, args: Mapping[str, str]) -> str:
    """Identifies one use of an audit, whatever else the model uses.

    Args:
        audit: The audit's name.
        args: The audit's arguments as SQL, without ``blocking``.
    """
    return _digest(json.dumps([audit, *args.items()]), 16)


def check_name(audit: str, args: Mapping[str, str]) -> str:
    """Returns the words of a use of an audit, such as ``accepted_range__amount__min_v_0``.

    Two uses may share them: see :func:`check_names`. Arguments are as those of :func:`audit_use`.
    """
    parts = [identifier(audit)]
    for key, value in args.items():
        # What an audit is about needs no word for it.
        words = _words(value) if key in _SUBJECTS else identifier(f"{key}_{_words(value)}")
        parts += filter(None, [words.strip("_")])
    name = "__".join(parts)
    return name if len(name) <= _LONGEST_CHECK else _cut(name)


def check_names(uses: Iterable[tuple[str, Mapping[str, str]]]) -> dict[str, str]:
    """Returns the asset check of each use of an audit in one model, by :func:`audit_use`.

    Uses that share their words, but for upper and lower case, are told apart by digests of their
    own, wherever they stand; so adding or moving an audit renames no check with other words.

    Args:
        uses: Names of audits with their arguments, as :func:`check_name` takes them.
    """
    words = {audit_use(audit, args): check_name(audit, args) for audit, args in uses}
    shared = Counter(name.lower() for name in words.values())
    shared[ENVIRONMENT_CHECK] += 1
    names = {use: name for use, name in words.items() if shared[name.lower()] == 1}
    taken = {*shared}
    for use in sorted(words.keys() - names.keys()):
        name = names[use] = with_digest(words[use], use, taken)
        taken.add(name.lower())
    return names


def with_digest(name: str, digest: str, taken: Container[str]) -> str:
    """Returns a name with as much of a digest as it takes to differ from others.

    Args:
        name: The name.
        digest: The digest.
        taken: The others, in lower case.
    """
    spelled = (f"{name}_{digest[:length]}" for length in range(6, len(digest) + 1))
    return next(each for each in spelled if each.lower() not in taken)


def _words(sql: str) -> str:
    """Returns the words and numbers of SQL, with words for comparisons and signs, joined."""
    for sign, word in _OPERATORS:
        sql = sql.replace(sign, word)
    sql = re.sub(r"(?<!\w)-", " minus ", sql, flags=re.ASCII)
    return re.sub(r"[^A-Za-z0-9]+", "_", sql).strip("_")


def _cut(name: str) -> str:
    """Returns the words of a long name that have room, whole ones where they are short enough."""
    shown = name[:_LONGEST_CHECK]
    whole = shown if name[_LONGEST_CHECK] == "_" else shown.rpartition("_")[0]
    return (whole if len(whole) > _LONGEST_CHECK // 2 else shown).rstrip("_")


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


def _digest(text: str, length: int = 8) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:length]
