"""What the site shows otherwise than the sources do.

Docstrings are written for Sphinx's roles and literal blocks too; pages show them plainly. The
tables of ``coming-from.md`` name a test in their last column, which is for who reads the sources.
"""

from __future__ import annotations

import re
from typing import Any

_ROLE = re.compile(r":(?:attr|class|data|func|meth|mod):(?=<code>)")

_IN_SOURCES = re.compile(r"<!-- The site leaves out this.*?<!-- So far. -->\n", re.DOTALL)
_WITH_TESTS = re.compile(r"^\|.*\| test \|\n(?:\|.*\n?)*", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Leaves out the column of tests, and what is said of it."""
    without = _IN_SOURCES.sub("", markdown)
    return _WITH_TESTS.sub(lambda table: re.sub(r"[^|\n]*\|$", "", table[0], flags=re.M), without)


def on_page_content(html: str, **_: Any) -> str:
    """Takes the markers away that only Sphinx reads."""
    return _ROLE.sub("", html).replace("::</p>", ":</p>")
