"""Dagster's UI in a real browser: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect, sync_playwright

PATIENCE_MS = 60_000

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
# A pill's text is cut by its style alone, so what is seen of it has to be measured.
_PILLS = """
pills => pills.map(pill => {
  const text = pill.textContent, style = getComputedStyle(pill);
  if (pill.scrollWidth <= pill.clientWidth) return text;
  const edge = pill.getBoundingClientRect().right - parseFloat(style.paddingRight);
  const node = document.createTreeWalker(pill, NodeFilter.SHOW_TEXT).nextNode();
  const range = document.createRange();
  range.setStart(node, 0);
  let seen = text.length;
  do range.setEnd(node, --seen); while (seen && range.getBoundingClientRect().right > edge);
  return text.slice(0, seen - 1) + '[cut]';
})"""

_SIZE = {"width": 1400, "height": 900}


def chromium() -> str:
    """Where Chromium is; skips the test where there is none."""
    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("needs Chromium: apt-get install chromium, or set CHROMIUM")
    return path


@contextmanager
def browser_on(base: str, screenshots: Path) -> Iterator[Browser]:
    """A browser that has been at the UI before, so that it greets nobody.

    Args:
        base: The webserver's address.
        screenshots: Folder for pictures.
    """
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium(), args=list(ARGUMENTS))
        try:
            page = launched.new_page(viewport=_SIZE, timezone_id="UTC", locale="en-GB")  # type: ignore[arg-type]
            page.set_default_timeout(PATIENCE_MS)
            page.goto(base)
            # "Join the Dagster community", at the first visit.
            page.get_by_text("Skip", exact=True).click()
            yield Browser(page, base, screenshots)
        finally:
            launched.close()


class Browser:
    """One page of it.

    Attributes:
        page: Playwright's.
    """

    def __init__(self, page: Page, base: str, screenshots: Path) -> None:
        self.page, self._base, self._screenshots = page, base, screenshots

    def open(self, path: str) -> None:
        """Goes to a page of the UI."""
        self.page.goto(self._base + path)

    def sees(self, text: str, *, exact: bool = False) -> Locator:
        """Waits until a text is on the page."""
        place = self.page.get_by_text(text, exact=exact).first
        expect(place).to_be_visible(timeout=PATIENCE_MS)
        return place

    def text(self) -> str:
        """All that the page says."""
        return self.page.inner_text("body")

    def pills(self) -> list[str]:
        """What is seen of each pill of a tree of conditions; one may be ``[cut]``."""
        pills: list[str] = self.page.locator("[class*=operand]").evaluate_all(_PILLS)
        return pills

    def picture(self, name: str) -> Path:
        """Saves what the page shows now."""
        self._screenshots.mkdir(parents=True, exist_ok=True)
        path = self._screenshots / f"{name}.png"
        self.page.screenshot(animations="disabled", path=path)
        return path
