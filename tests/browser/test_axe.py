"""The page for everybody: axe finds nothing, nothing overflows, targets are large enough."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.visit import Visit
from tests.system.stack import Stack

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
RUN = """rules => axe.run(document, {runOnly: rules}).then(({violations}) => violations.map(
    ({id, nodes}) => `${id}: ${nodes.slice(0, 3).map(({target}) => target.join(' '))}`))"""
SCRIPT = """/sim think A short thought.
/sim write src/app.py print(1)
/sim read missing.txt
/sim say Here is `code`, a [link](https://example.com) and **words**.
/sim ask Bash make all"""
SCREENS: dict[str, dict[str, Any]] = {
    "desktop": {"viewport": {"width": 1280, "height": 800}},
    "mobile": {
        "viewport": {"width": 390, "height": 844},
        "has_touch": True,
        "is_mobile": True,
    },
}


@pytest.mark.parametrize("locale", ["en-US", "ko-KR"])
@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(
    visits: Callable[..., Visit],
    stack: Stack,
    modules: Path,
    scheme: str,
    screen: str,
    locale: str,
) -> None:
    """In each combination: the empty page, a turn that asks, one that failed, the dialog."""
    visit = visits(stack, locale=locale, color_scheme=scheme, bypass_csp=True, **SCREENS[screen])
    page = visit.page
    page.add_script_tag(path=modules / "axe-core" / "axe.min.js")
    found: dict[str, Any] = {"empty": page.evaluate(RUN, RULES)}
    visit.send(SCRIPT)
    expect(visit.permission).to_be_visible()
    page.locator(".tool summary").first.click()
    page.locator(".thought summary").first.click()
    found["asking"] = page.evaluate(RUN, RULES)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    visit.permission.get_by_role("button", name=re.compile("Deny|거부")).click()
    visit.send("/sim crash")
    expect(page.locator(".outcome.failed")).to_be_visible()
    found["failed"] = page.evaluate(RUN, RULES)
    visit.send("/sim plan # Plan\\n- one")
    expect(visit.permission).to_be_visible()
    found["plan"] = page.evaluate(RUN, RULES)
    visit.permission.locator("button.primary").click()
    visit.send("/sim question Which one? this|that")
    expect(visit.permission.locator("fieldset")).to_be_visible()
    found["question"] = page.evaluate(RUN, RULES)
    visit.permission.locator("button:not(.primary)").click()
    page.locator(".bar button.files").click()
    dialog = page.locator("dialog.files")
    dialog.locator(".entry", has_text="src").click()
    dialog.locator(".entry", has_text="app.py").click()
    expect(dialog.locator(".view pre")).to_be_visible()
    found["files"] = page.evaluate(RUN, RULES)
    page.locator("dialog.files > header > button").click()
    if screen == "mobile":
        page.locator(".menu-button").click()
        expect(page.locator("agent-list.open")).to_be_visible()
        found["menu"] = page.evaluate(RUN, RULES)
    page.locator(".new-agent").click()
    expect(page.locator("dialog[open]")).to_be_visible()
    page.locator("dialog[open] summary").click()
    found["dialog"] = page.evaluate(RUN, RULES)

    assert {state: [] for state in found} == found


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
    visit.send("/sim stream 100 20")
    expect(log).to_have_attribute("aria-busy", "true")
    visit.await_ending()
    expect(log).to_have_attribute("aria-busy", "false")


def test_nothing_moves_for_who_asked_for_that(visits: Callable[..., Visit], stack: Stack) -> None:
    """`prefers-reduced-motion` stops every animation."""
    visit = visits(stack, reduced_motion="reduce")
    visit.send("/sim stream 100 20")
    expect(visit.page.locator(".pulse")).to_be_visible()

    assert 0 == visit.page.evaluate("document.getAnimations().length")


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
