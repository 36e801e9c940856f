"""When an agent has its turn, and what it may cost, as a person sees it; agents are simulated."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.visit import Visit
from tests.system.stack import Stack, running

LIMITS = {
    "MOORLINE_LIMIT_SIMULATION": "true",
    "MOORLINE_MAX_RUNNING_TURNS": "1",
    "MOORLINE_USER_MONTH_BUDGET_USD": "1",
}
COSTLY = "/sim usage 1000 20 60000\n/sim say done"
"""A turn of six cents."""


@pytest.fixture(scope="module")
def tight(tmp_path_factory: pytest.TempPathFactory, modules: Path) -> Iterator[Stack]:
    """A platform with room for one turn, and a dollar for each user and month."""
    with running(tmp_path_factory.mktemp("tight") / "data", LIMITS) as stack:
        yield stack


def test_the_place_in_the_queue_is_shown(visits: Callable[..., Visit], tight: Stack) -> None:
    """Beside the turn, in the bar and in the list, until there is room."""
    visit = visits(tight, bypass_csp=True)
    page = visit.page
    visit.send("/sim hang")
    expect(visit.stop).to_be_visible()
    visit.new_agent()
    visit.send("/sim say My turn.")
    expect(page.locator(".progress")).to_contain_text("Waits for room: place 1 in the queue")
    for badge in (page.locator("header .badge"), page.locator("agent-list .current .badge")):
        expect(badge).to_have_text("Waits: place 1")
    visit.choose_language("ko")
    expect(page.locator(".progress")).to_contain_text("자리를 기다리는 중: 대기 순서 1")
    expect(page.locator("header .badge")).to_have_text("대기 순서 1")
    assert [] == visit.barriers()
    visit.choose_language("en")
    page.keyboard.press("Alt+ArrowDown")
    expect(page.locator("header h1")).to_have_text("/sim hang")
    page.keyboard.press("Escape")
    expect(page.locator(".outcome.cancelled")).to_be_visible()
    page.locator("agent-list .name", has_text="My turn").click()
    expect(visit.messages).to_have_text("My turn.")
    expect(page.locator("header .badge")).to_have_text("Idle")


@pytest.mark.timeout(120)
def test_a_budget_is_set_met_and_raised(visits: Callable[..., Visit], tight: Stack) -> None:
    """By keyboard: the page says what is left, which budget stopped a turn, and how to go on."""
    visit = visits(tight, bypass_csp=True)
    page, keyboard = visit.page, visit.page.keyboard
    used, month = page.locator(".used"), page.locator(".month")
    dialog = page.locator("agent-dialog dialog")
    budget = dialog.locator("[name=budget]")
    visit.new_agent()
    visit.send(COSTLY)
    expect(visit.endings).to_contain_text("$0.06")
    expect(used).to_contain_text("1K in, 20 out · $0.06")
    expect(month).to_have_text("This month: $0.06 of $1.00")

    visit.reach(page.locator("header").get_by_role("button", name="Settings"), "Shift+Tab")
    keyboard.press("Enter")
    visit.reach(dialog.locator("summary"))
    keyboard.press("Enter")
    expect(dialog).to_contain_text("All its turns so far: $0.06")
    visit.reach(budget)
    keyboard.type("0.1")
    keyboard.press("Enter")
    expect(dialog).not_to_be_visible()
    expect(used).to_contain_text("$0.06 of $0.10")

    visit.send(COSTLY)
    expect(used).to_contain_text("$0.12 of $0.10")
    expect(month).to_have_text("This month: $0.12 of $1.00")
    visit.send(COSTLY)
    failed = page.locator(".outcome.failed")
    expect(failed).to_contain_text("What this agent may cost is spent.")
    visit.choose_language("ko")
    expect(failed).to_contain_text("이 에이전트의 전체 예산을 모두 사용했습니다.")
    expect(month).to_have_text("이번 달: US$1.00 중 US$0.12")
    expect(used).to_contain_text("US$0.10 중 US$0.12")
    assert [] == visit.barriers()
    visit.choose_language("en")

    visit.field.focus()
    visit.reach(failed.get_by_role("button", name="Change the budget"), "Shift+Tab")
    keyboard.press("Enter")
    visit.reach(budget, most=2)
    keyboard.type("2")
    keyboard.press("Enter")
    expect(dialog).not_to_be_visible()
    visit.reach(failed.get_by_role("button", name="Send again"), most=1)
    keyboard.press("Enter")
    visit.await_ending(4)
    expect(visit.messages).to_have_count(3)
    expect(used).to_contain_text("$0.18 of $2.00")


def test_a_month_that_is_spent_is_not_the_users_to_raise(
    visits: Callable[..., Visit], tight: Stack
) -> None:
    """The page says whom to ask, and offers no setting that would not help."""
    visit = visits(tight)
    visit.new_agent()
    visit.send("/sim usage 10 10 1000000\n/sim say much")
    visit.await_ending()
    expect(visit.page.locator(".month.over")).to_contain_text("of $1.00")
    visit.send("/sim say more")
    failed = visit.page.locator(".outcome.failed")
    expect(failed).to_contain_text("What you may spend this month is spent. Ask an administrator")
    expect(failed.get_by_role("button")).to_have_text(["Send again"])
