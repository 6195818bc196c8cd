"""Chromium without a head, over Playwright. Without it: skips, in CI fails.

Playwright leaves its event loop running in this thread until it is closed, and other tests start loops of their own:
nothing here outlives the package.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright

from tests.web.scene import Fleet
from tests.web.served import Served, serving

WAIT_MS = 30_000.0
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--screenshots", metavar="DIR", help="where tests/web puts the pictures of docs/")


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    path = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if path is None:
        missing = "Chromium is not installed: apt-get install chromium"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture(scope="package")
def served(tmp_path_factory: pytest.TempPathFactory, browser: Browser) -> Iterator[Served]:
    """One server for all tests that change nothing for one another."""
    with serving(tmp_path_factory.mktemp("web")) as made:
        yield made


@pytest.fixture(scope="package")
def fleet(served: Served) -> Fleet:
    made = Fleet(served)
    made.build()
    return made


class Pages:
    """Pages of one browser; what they complain of."""

    def __init__(self, context: BrowserContext) -> None:
        self.context = context
        self.wrong: list[str] = []

    def open(self, url: str) -> Page:
        page = self.context.new_page()
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.wrong.append(f"{error}"))
        page.goto(url)
        return page

    def signed_in(self, served: Served, path: str = "/") -> Page:
        """A page of a browser that a link signed in."""
        page = self.open(served.ticket())
        page.get_by_role("button", name="Sign out").wait_for()
        if path != "/":
            page.goto(served.url + path)
        return page

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.wrong.append(f"{message.type}: {message.text} ({message.location.get('url')})")


@pytest.fixture
def browsers(browser: Browser) -> Iterator[Callable[..., Pages]]:
    """Makes a browser of its own, with options of Playwright's new_context."""
    made: list[Pages] = []

    def make(**options: object) -> Pages:
        wanted = {
            "viewport": {"width": 1280, "height": 800},
            "locale": "en-GB",
            "timezone_id": "Europe/Berlin",
        }
        context = browser.new_context(**{**wanted, **options})  # type: ignore[arg-type]
        context.set_default_timeout(WAIT_MS)
        made.append(Pages(context))
        return made[-1]

    yield make
    for one in made:
        one.context.close()


@pytest.fixture
def pages(browsers: Callable[..., Pages]) -> Iterator[Pages]:
    """A browser that must not complain."""
    made = browsers()
    yield made
    assert not made.wrong


@pytest.fixture(scope="package")
def screenshots(request: pytest.FixtureRequest) -> Path | None:
    """Where pictures go, None where none are asked for."""
    given = request.config.getoption("--screenshots")
    return Path(given) if given else None
