"""Fixtures: the real services, a real Chromium, and visits to the page."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from services.gateway.vendor import ROOT, STATIC, VendorError, build
from tests.browser.visit import CHROMIUM_FLAGS, WAIT_MS, Visit
from tests.system.stack import Stack, running

NAMES = ("chromium", "chromium-browser", "google-chrome")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What asks for a browser drives one, and gets the time that takes."""
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.timeout(90))


@pytest.fixture(scope="session")
def modules() -> Path:
    """The page's third-party modules, built; the folder of npm's packages."""
    try:
        build(root=ROOT, target=STATIC / "vendor")
    except VendorError as error:
        pytest.skip(str(error))
    return ROOT / "node_modules"


@pytest.fixture(scope="session")
def chromium() -> str:
    """Where Chromium is: what CHROMIUM says, or what is on PATH."""
    named = os.environ.get("CHROMIUM")  # noqa: TID251 - a test's environment, not a service's
    found = named or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("no Chromium: install the package chromium, or say where one is in CHROMIUM")
    return found


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, modules: Path) -> Iterator[Stack]:
    """One platform for every test that leaves it as it found it."""
    with running(tmp_path_factory.mktemp("browser") / "data") as stack:
        yield stack


@pytest.fixture
def own_stack(tmp_path: Path, modules: Path) -> Iterator[Stack]:
    """A platform for one test that kills parts of it."""
    with running(tmp_path / "data") as stack:
        yield stack


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """A browser for a module's tests, and not for longer: it occupies the event loop."""
    expect.set_options(timeout=WAIT_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visits(browser: Browser) -> Iterator[Callable[..., Visit]]:
    """Opens visits to a platform; afterwards, nothing may have gone wrong in any of them."""
    opened: list[Visit] = []

    def open_visit(stack: Stack, *, enter: bool = True, **options: Any) -> Visit:
        context = browser.new_context(**{"locale": "en-US", **options})
        context.set_default_timeout(WAIT_MS)
        opened.append(Visit(context.new_page(), stack.url))
        opened[-1].listen()
        if enter:
            opened[-1].enter(stack.token)
        return opened[-1]

    yield open_visit
    problems = [visit.unexpected for visit in opened]
    for visit in opened:
        visit.page.context.close()

    assert [[]] * len(opened) == problems


@pytest.fixture
def visit(visits: Callable[..., Visit], stack: Stack) -> Visit:
    """A visit to the shared platform."""
    return visits(stack)
