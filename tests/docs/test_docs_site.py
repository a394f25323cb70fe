"""The site: it is built without a warning, and asks no other host for anything."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.projects import ROOT

import dagster_sqlmesh_automation

if TYPE_CHECKING:
    from playwright.sync_api import Page

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


def test_the_column_of_tests_is_in_the_sources_alone(site: Path) -> None:
    page = (site / "coming-from.html").read_text(encoding="utf-8")
    assert "a step of its own" in page
    assert "::test_" not in page
    assert "last column" not in page
    columns = {row.count("<th>") for row in re.findall(r"<thead>.*?</thead>", page, re.DOTALL)}
    assert columns == {2, 5}
    assert "<th>test</th>" not in page


@pytest.fixture(scope="module")
def browsed(site: Path) -> Iterator[Page]:
    """A browser on the site, which a server of this process has: the search needs one."""
    playwright = pytest.importorskip("playwright.sync_api", reason="the browser is driven by it")
    from support.browser import ARGUMENTS, chromium

    handler = partial(Quiet, directory=str(site))
    with (
        ThreadingHTTPServer(("127.0.0.1", 0), handler) as server,
        playwright.sync_playwright() as driver,
    ):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser = driver.chromium.launch(executable_path=chromium(), args=list(ARGUMENTS))
        page = browser.new_page(
            viewport={"width": 1400, "height": 900},
            base_url=f"http://127.0.0.1:{server.server_port}",
        )
        yield page
        browser.close()
        server.shutdown()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None: ...


@pytest.mark.parametrize(
    ("words", "found"),
    [
        pytest.param("owners", "get_owners", id="a part of a function's name"),
        pytest.param("attempts", "Settings", id="a setting's last"),
        pytest.param("cron_map", "SQLMESH_AUTOMATION_CRON_MAP", id="a setting without its prefix"),
        pytest.param("translator", "SQLMeshTranslator", id="a part of a class's name"),
    ],
)
def test_the_search_finds_names_by_their_parts(browsed: Page, words: str, found: str) -> None:
    browsed.goto("/index.html")
    browsed.locator(".md-search__input").click()
    browsed.keyboard.type(words)
    browsed.locator(".md-search-result__item").first.wait_for()
    results = browsed.locator(".md-search-result__item").all_inner_texts()
    assert any(found in text.replace("\u200b", "") for text in results), results


@pytest.mark.parametrize("width", [1400, 900])
def test_names_of_settings_break_nowhere(browsed: Page, width: int) -> None:
    browsed.set_viewport_size({"width": width, "height": 900})
    browsed.goto("/settings.html")
    lines = browsed.eval_on_selector_all(
        "td:first-child code",
        "codes => codes.map(code => [code.innerText, code.getClientRects().length])",
    )
    assert len(lines) > 30
    assert [name for name, count in lines if count != 1] == []
