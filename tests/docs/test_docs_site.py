"""The site: it is built without a warning, and asks no other host for anything."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.projects import ROOT

import dagster_sqlmesh_automation

# The oldest versions are tested without what only builds the site.
pytestmark = pytest.mark.slow

LOADED = re.compile(
    r"<(?:script|img|iframe|source)\b[^>]*\bsrc=[\"']?(?:https?:)?//"
    r"|<link\b(?![^>]*rel=[\"']?canonical)[^>]*href=[\"']?(?:https?:)?//"
)
"""What a browser fetches by itself from another host."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        # A host that does not answer: whatever is fetched fails the build.
        env={
            **os.environ,
            "NO_MKDOCS_2_WARNING": "1",
            **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:9"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


def test_a_page_fetches_nothing_from_other_hosts(site: Path) -> None:
    made = [*site.rglob("*.html")]
    assert len(made) > 15
    for page in made:
        text = page.read_text(encoding="utf-8")
        assert not LOADED.search(text), page.name
        assert 'class="mermaid"' not in text, f"{page.name}: the theme fetches what draws it"
    for style in site.rglob("*.css"):
        assert not re.search(r"url\([\"']?https?:", style.read_text(encoding="utf-8")), style.name


def test_every_page_of_the_folder_is_built(site: Path) -> None:
    written = {path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")}
    assert {path.relative_to(site).with_suffix(".md") for path in site.rglob("*.html")} >= written
    assert not (site / "_hooks.py").exists()


def test_the_api_has_every_public_name_and_no_marks_of_sphinx(site: Path) -> None:
    page = (site / "api.html").read_text(encoding="utf-8")
    for name in dagster_sqlmesh_automation.__all__:
        assert f'id="dagster_sqlmesh_automation.{name}"' in page, name
    assert not re.search(r":(?:attr|class|data|func|meth):", page)
    assert "::</p>" not in page
