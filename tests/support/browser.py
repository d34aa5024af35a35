"""The system's Chromium, driven by Playwright, and what a page must never do."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, Page, async_playwright

_PROGRAMS: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM: Final = next(filter(None, map(shutil.which, _PROGRAMS)), None)
needs_chromium: Final = pytest.mark.skipif(
    CHROMIUM is None, reason="not installed: chromium (./cmd/test installs it on Debian)"
)
DESK: Final = {"width": 1440, "height": 900}
PHONE: Final = {"width": 390, "height": 844}
# Playwright's own: waiting in the page goes by animation frames, on which a busy machine is slow.
PATIENCE_MS: Final = 30_000


@asynccontextmanager
async def running_browser() -> AsyncIterator[Browser]:
    """Give a browser without a window."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-dev-shm-usage"],  # root in a container has neither
        )
        try:
            yield browser
        finally:
            await browser.close()


class Watched:
    """A page, and everything it did that it should not have done.

    Attributes:
        problems: Errors on the console, exceptions, requests to other hosts, failed ones.
    """

    def __init__(self, page: Page) -> None:
        self.page = page
        self.problems: list[str] = []
        self.excused = ""
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.problems.append(f"exception: {error}"))
        page.on("request", lambda request: self._address(request.url))
        page.on("websocket", lambda socket: self._address(socket.url))

    def _console(self, message: Any) -> None:
        if message.type in {"error", "warning"} and not (
            self.excused and self.excused in message.text
        ):
            self.problems.append(f"{message.type}: {message.text}")

    def _address(self, url: str) -> None:
        place = urlsplit(url)
        if place.scheme not in {"data", "blob"} and place.hostname != "127.0.0.1":
            self.problems.append(f"external: {url}")


@asynccontextmanager
async def watched_page(browser: Browser, **options: Any) -> AsyncIterator[Watched]:
    """Give a page of a fresh profile; fails at the end when it did what it should not do."""
    context = await browser.new_context(**{"viewport": DESK, **options})
    context.set_default_timeout(PATIENCE_MS)
    try:
        watched = Watched(await context.new_page())
        yield watched
        assert watched.problems == [], watched.problems
    finally:
        await context.close()
