"""The page for everybody: axe finds nothing, nothing overflows, targets are large enough.

Each view is looked at in four of the eight combinations of screen, colours and language: desktop
light English, desktop dark Korean, mobile light Korean, mobile dark English. So each value meets
each value of the others in every view: whatever is wrong with one of them, or with two together,
is seen. Only what takes one screen, one scheme and one language at once would not be; no rule of
axe is about three.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.visit import ENDLESS, Visit
from tests.system.stack import Stack

SCRIPT = """/sim think A short thought.
/sim write src/app.py print("This line is longer than a telephone is wide, by quite a bit.")
/sim read missing.txt
/sim say Here is `code`, a [link](https://example.com) and **words**.
/sim bash mkdir -p build/of/the/application && touch build/of/the/application/app.py"""
SCREENS: dict[str, dict[str, Any]] = {
    "desktop": {"viewport": {"width": 1280, "height": 800}},
    "mobile": {
        "viewport": {"width": 390, "height": 844},
        "has_touch": True,
        "is_mobile": True,
    },
}
LOOKS = {"desktop": (("light", "en"), ("dark", "ko")), "mobile": (("light", "ko"), ("dark", "en"))}
"""Colours and languages on each screen."""
SPEAK = "tag => import('/static/i18n.js').then(({chooseLanguage}) => chooseLanguage(tag))"
OVERFLOWING = """[document.documentElement, ...document.querySelectorAll(
    'dialog[open], .permission, .changes, .tool, .outcome, .composer')]
    .filter(({scrollWidth, clientWidth}) => scrollWidth > clientWidth)
    .map(({localName, className}) => `${localName} ${className} overflows`)"""


@dataclass
class Eyes:
    """Looks at what a visit shows, each time in every look.

    Attributes:
        visit: The visit.
        looks: Colours and languages.
        found: What is wrong, by view and look.
    """

    visit: Visit
    looks: tuple[tuple[Any, str], ...]
    found: dict[str, list[str]] = field(default_factory=dict)

    def look(self, view: str) -> None:
        """Look at what is there now."""
        page = self.visit.page
        for scheme, tag in self.looks:
            page.emulate_media(color_scheme=scheme)
            page.evaluate(SPEAK, tag)
            wrong = [*self.visit.barriers(), *page.evaluate(OVERFLOWING)]
            self.found[f"{view}, {scheme}, {tag}"] = wrong


@pytest.mark.timeout(180)
@pytest.mark.parametrize("screen", SCREENS)
def test_axe_finds_nothing(visits: Callable[..., Visit], stack: Stack, screen: str) -> None:
    """The empty page, a turn that asks, one that failed, a plan, a question, each dialog."""
    # Colours that are on their way from one scheme to the other have contrasts of their own.
    options = {"bypass_csp": True, "reduced_motion": "reduce", **SCREENS[screen]}
    visit = visits(stack, **options)
    page, eyes = visit.page, Eyes(visit, LOOKS[screen])
    visit.new_agent()
    eyes.look("empty")
    visit.send(SCRIPT)
    expect(visit.permission).to_be_visible()
    page.locator(".tool summary").first.click()
    page.locator(".thought summary").first.click()
    eyes.look("asking")
    visit.permission.get_by_role("button", name=re.compile("Deny|거부")).click()
    page.locator(".changes summary").click()
    visit.send("/sim crash")
    expect(page.locator(".outcome.failed")).to_be_visible()
    eyes.look("failed")
    visit.send("/sim plan # Plan\\n- one")
    expect(visit.permission).to_be_visible()
    eyes.look("plan")
    visit.permission.locator("button.primary").click()
    visit.send("/sim question Which one? this|that")
    expect(visit.permission.locator("fieldset")).to_be_visible()
    eyes.look("question")
    visit.permission.locator("button:not(.primary)").click()
    page.locator(".bar button.files").click()
    dialog = page.locator("dialog.files")
    dialog.locator(".entry", has_text="src").click()
    dialog.locator(".entry", has_text="app.py").click()
    expect(dialog.locator(".view pre")).to_be_visible()
    eyes.look("files")
    page.locator("dialog.files > header > button").click()
    if screen == "mobile":
        page.locator(".menu-button").click()
        expect(page.locator("agent-list.open")).to_be_visible()
        eyes.look("menu")
    page.locator(".new-agent").click()
    expect(page.locator("dialog[open]")).to_be_visible()
    page.locator("dialog[open] summary").click()
    eyes.look("dialog")

    assert {view: [] for view in eyes.found} == eyes.found


def test_touch_targets_are_large_enough(visits: Callable[..., Visit], stack: Stack) -> None:
    """Everything a finger is to hit is at least 44 px high on a touch screen."""
    visit = visits(stack, **SCREENS["mobile"])
    visit.send("/sim ask Bash make all")
    expect(visit.permission).to_be_visible()
    visit.page.locator(".menu-button").click()
    heights = visit.page.locator("button:visible, select:visible, input:visible").evaluate_all(
        "all => all.map(e => [e.textContent.trim(), Math.round(e.getBoundingClientRect().height)])"
    )

    assert [] == [(name, height) for name, height in heights if height < 44]


def test_the_log_is_quiet_while_text_is_written(visit: Visit) -> None:
    """A screen reader is told when a turn is over, not about each fragment."""
    log = visit.page.get_by_role("log")
    visit.send(ENDLESS)
    expect(visit.messages).to_contain_text("w5")
    expect(log).to_have_attribute("aria-busy", "true")
    visit.stop_now()
    expect(log).to_have_attribute("aria-busy", "false")


def test_nothing_moves_for_who_asked_for_that(visits: Callable[..., Visit], stack: Stack) -> None:
    """`prefers-reduced-motion` stops every animation."""
    visit = visits(stack, reduced_motion="reduce")
    visit.send(ENDLESS)
    expect(visit.messages).to_contain_text("w5")
    expect(visit.page.locator(".pulse")).to_be_visible()

    assert 0 == visit.page.evaluate("document.getAnimations().length")
    visit.stop_now()


def test_the_language_and_the_colours_can_be_chosen(visit: Visit) -> None:
    """A choice takes effect at once and is kept."""
    page = visit.page
    visit.send("/sim say `x`\n/sim ask Bash make")
    page.get_by_label("Language").select_option("ko")
    expect(visit.permission).to_contain_text("도구 권한 요청: Bash")
    page.locator("agent-list select").nth(1).select_option("dark")
    page.reload()
    expect(visit.permission.get_by_role("button", name="허용", exact=True)).to_be_visible()
    assert "ko" == page.evaluate("document.documentElement.lang")
    assert "dark" == page.evaluate("getComputedStyle(document.documentElement).colorScheme")
