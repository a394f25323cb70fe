"""The documentation's pages, as far as tests look into them: blocks, commands, links, headings."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from textwrap import dedent

from .projects import ROOT

PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
"""Pages whose blocks are run."""

LINKED = (
    *PAGES,
    ROOT / "ARCHITECTURE.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    ROOT / "deploy" / "README.md",
    *sorted((ROOT / "docs" / "adr").glob("*.md")),
)
"""Pages whose links, settings and names of tests are looked up."""

_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.+?)\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Command:
    """A line behind a prompt, with what the page shows below it.

    Attributes:
        text: The command; of several lines where a quote is open at the end of the first.
        output: The lines that it prints, as the page has them.
    """

    text: str
    output: tuple[str, ...] = ()

    @property
    def words(self) -> list[str]:
        """Its words as a shell takes them, up to a pipe."""
        words = shlex.split(self.text, comments=True)
        return words[: words.index("|")] if "|" in words else words


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    page: Path
    line: int
    language: str
    text: str = field(repr=False)

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def commands(self) -> list[Command]:
        """The commands of a console or shell block."""
        return list(_commands(self.text, prompt="$ " if self.language == "console" else ""))


def _commands(text: str, prompt: str) -> Iterator[Command]:
    lines = text.splitlines()
    while lines:
        line = lines.pop(0)
        if not line.startswith(prompt):
            raise ValueError(f"no command before its output: {line!r}")
        command = line.removeprefix(prompt)
        while _is_open(command):
            command = f"{command}\n{lines.pop(0)}"
        output = []
        while prompt and lines and not lines[0].startswith(prompt):
            output.append(lines.pop(0))
        if command.strip():
            yield Command(command, tuple(output))


def _is_open(command: str) -> bool:
    """Whether a quote is still open, so that the next line belongs to the command."""
    try:
        shlex.split(command, comments=True)
    except ValueError:
        return True
    return False


@cache
def blocks(page: Path) -> tuple[Block, ...]:
    """The fenced blocks of a page."""
    text = page.read_text(encoding="utf-8")
    return tuple(
        Block(page, text.count("\n", 0, found.start()) + 1, found[2], dedent(found[3]))
        for found in _FENCE.finditer(text)
    )


def all_blocks(*languages: str) -> list[Block]:
    """The fenced blocks of all pages, in some languages."""
    return [block for page in PAGES for block in blocks(page) if block.language in languages]


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def inline_code(page: Path) -> list[str]:
    """What is in code font within a page's text."""
    return _CODE.findall(prose(page))


def links(page: Path) -> list[str]:
    """Where a page's links lead to."""
    return _LINK.findall(_CODE.sub("", prose(page)))


@cache
def anchors(page: Path) -> frozenset[str]:
    """The anchors of a page's headings, as the site makes them; a second one alike has none."""
    headings = (re.sub(r"[^\w\s-]", "", heading) for heading in _HEADING.findall(prose(page)))
    return frozenset(re.sub(r"[-\s]+", "-", heading.strip().lower()) for heading in headings)


def shape(line: str) -> re.Pattern[str]:
    """What a line of output has to look like: any numbers, and anything for ``…``."""
    parts = re.split(r"(…|\d+|\s+)", line.strip())
    kinds = {"…": ".*"}
    pattern = "".join(
        kinds.get(part)
        or (r"\d+" if part.isdigit() else r"\s+" if part.isspace() else re.escape(part))
        for part in parts
        if part
    )
    return re.compile(rf"\s*{pattern}\s*")
