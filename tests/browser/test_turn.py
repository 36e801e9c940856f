"""A turn on the page, from the prompt to its outcome."""

from __future__ import annotations

import re
from collections.abc import Callable

from playwright.sync_api import expect

from tests.browser.visit import ENDLESS, WAIT_MS, Visit
from tests.system.stack import Stack

FULL = """/sim think The login accepts everything.
/sim say **Found** it, a list of `two` words.
/sim write notes.txt hello there
/sim ask Bash rm -rf build
/sim usage 1200 340 11700
/sim say Done with it."""
STOPWATCH = """() => {
    const stopped = () => document.querySelectorAll('.outcome.cancelled').length;
    const before = stopped();
    window.took = new Promise(resolve => {
        let begin;
        const asked = () => { begin ??= performance.now(); };
        addEventListener('click', asked, {capture: true, once: true});
        addEventListener('keydown', asked, {capture: true, once: true});
        new MutationObserver((_, observer) => {
            if (stopped() === before) return;
            observer.disconnect();
            resolve((performance.now() - begin) / 1000);
        }).observe(document, {childList: true, subtree: true});
    });
}"""
"""Times the next stop inside the page: what drives the browser has delays of its own."""


def test_a_whole_turn_shows_all_it_did(visit: Visit) -> None:
    """Thought, text, tools, permission, outcome, tokens and cost appear as they happen."""
    visit.send(FULL)
    expect(visit.permission).to_contain_text("rm -rf build")
    expect(visit.page.locator("header .badge")).to_have_text("Needs you")
    expect(visit.page.locator("transcript-view strong")).to_have_text("Found")
    expect(visit.page.locator(".tool").nth(0)).to_contain_text("notes.txt")
    visit.permission.get_by_role("button", name="Allow", exact=True).click()
    visit.await_ending()
    expect(visit.page.locator(".decision")).to_have_text(re.compile("Allowed by you"))
    expect(visit.messages.last).to_have_text("Done with it.")
    expect(visit.endings).to_contain_text("$0.012")
    expect(visit.endings).to_contain_text("340 out")
    expect(visit.page.locator(".used")).to_contain_text("$0.012")
    expect(visit.page.locator("header .badge")).to_have_text("Idle")


def test_the_first_prompt_makes_an_agent(visit: Visit) -> None:
    """A new user types and presses Enter, and that is all."""
    visit.new_agent()
    visit.send("/sim say Hello to the new one.")
    expect(visit.messages).to_have_text("Hello to the new one.")
    expect(visit.page.locator("agent-list .current .name")).to_have_text(
        "/sim say Hello to the new one."
    )
    assert re.search(r"#/agents/a[0-9a-f]{32}$", visit.page.url)


def test_a_written_file_is_shown_as_a_change(visit: Visit) -> None:
    """The tool's card opens to the change it made."""
    visit.send("/sim write src/new.txt one line")
    visit.await_ending()
    visit.page.locator(".tool summary").click()
    expect(visit.page.locator(".tool .diff .add")).to_have_text("+one line\n")


def test_stop_ends_a_turn_at_once(visit: Visit) -> None:
    """The button and Escape stop within a second, what was written stays, the next prompt works."""
    for stop in (visit.stop.click, lambda: visit.field.press("Escape")):
        # Other work on the machine makes a stop later and never sooner.
        assert min(stop_seconds(visit, stop) for _ in range(3)) < 1
    visit.send("/sim say Still here.")
    expect(visit.messages.last).to_have_text("Still here.")


def stop_seconds(visit: Visit, stop: Callable[[], None]) -> float:
    """Stop a turn in the middle of its text; return how long its end took to be shown."""
    number = visit.page.locator(".outcome.cancelled").count() + 1
    visit.send(ENDLESS)
    expect(visit.messages).to_have_count(number)
    expect(visit.messages.last).to_contain_text("w5")
    visit.page.evaluate(STOPWATCH)
    stop()
    expect(visit.page.locator(".outcome.cancelled")).to_have_count(number)
    expect(visit.page.locator(".partial")).to_have_count(number)
    return float(visit.page.evaluate("window.took"))


def test_a_stop_right_after_sending_is_not_lost(visit: Visit) -> None:
    """Escape stops also what the server has not recorded yet."""
    visit.field.fill("/sim stream 2000 20")
    visit.field.press("Enter")
    visit.field.press("Escape")
    expect(visit.page.locator(".outcome.cancelled")).to_have_count(1)


def test_prompts_queue_while_the_agent_works(visit: Visit) -> None:
    """The field is never locked; what waits is listed, can be taken back, and runs in order."""
    visit.send("/sim ask Bash make")
    expect(visit.stop).to_be_visible()
    for text in ("/sim say second", "/sim say third", "/sim say fourth"):
        visit.send(text)
    queue = visit.page.locator(".queue li")
    expect(queue).to_have_count(3)
    queue.nth(1).get_by_role("button").click()
    expect(queue).to_have_count(2)
    visit.permission.get_by_role("button", name="Allow", exact=True).click()
    expect(visit.page.locator(".queue")).to_have_count(0)
    visit.await_ending(4)
    expect(visit.messages.last).to_have_text("fourth")
    assert "second" in visit.messages.all_inner_texts()
    assert "third" not in visit.messages.all_inner_texts()


def test_a_failure_says_what_to_do_and_sends_again(visit: Visit) -> None:
    """The reason is translated, the details keep the code, one click sends the prompt again."""
    visit.send("/sim crash")
    outcome = visit.page.locator(".outcome.failed")
    expect(outcome).to_contain_text("The agent's process died.", timeout=2 * WAIT_MS)
    expect(outcome.locator("code")).to_contain_text("AGENT_CRASHED")
    outcome.get_by_role("button", name="Send again").click()
    expect(visit.prompts).to_have_count(2)


def test_a_retracted_piece_disappears(visit: Visit) -> None:
    """Text that the agent took back is gone, and its turn ends in peace."""
    visit.send("/sim retract nonsense here\n/sim say sense")
    visit.await_ending()
    assert ["sense"] == visit.messages.all_inner_texts()


def test_an_answer_given_elsewhere_is_shown(visits: Callable[..., Visit], stack: Stack) -> None:
    """A request is on every page of the user's; the second page sees who was first."""
    first = visits(stack)
    first.send("/sim ask Bash make")
    expect(first.permission).to_be_visible()
    second = visits(stack)
    second.page.goto(first.page.url)
    second.permission.get_by_label("Deny and say why").fill("not now")
    second.permission.get_by_role("button", name="Deny").click()
    expect(first.page.locator(".decision")).to_contain_text("answered elsewhere")
    expect(first.page.locator(".decision q")).to_have_text("not now")
    expect(second.page.locator(".decision")).not_to_contain_text("elsewhere")
    expect(first.page.locator(".tool .state")).to_have_text("Denied")
    first.page.reload()
    expect(first.page.locator(".decision")).not_to_contain_text("elsewhere")


def test_a_turn_with_a_permission_needs_no_mouse(visit: Visit) -> None:
    """Typing, reaching the request, allowing it and going back work by keyboard alone."""
    keyboard = visit.page.keyboard
    expect(visit.field).to_be_focused()
    keyboard.type("/sim ask Bash make all\n".rstrip())
    keyboard.press("Enter")
    expect(visit.permission).to_be_visible()
    keyboard.type("ad")
    expect(visit.permission).to_be_visible()
    for _ in range(12):
        if visit.permission.evaluate("card => card === document.activeElement"):
            break
        keyboard.press("Shift+Tab")
    expect(visit.permission).to_be_focused()
    keyboard.press("a")
    visit.await_ending()
    expect(visit.page.locator(".decision")).to_contain_text("Allowed by you")
    expect(visit.field).to_be_focused()
    assert "ad" == visit.field.input_value()


def test_agents_can_be_made_renamed_switched_and_deleted(visit: Visit) -> None:
    """The list, its dialog, Alt+arrows, and a deletion that asks first."""
    page = visit.page
    for name in ("Alpha test", "Beta test"):
        page.get_by_role("button", name="New agent", exact=True).click()
        page.get_by_label("Name").fill(name)
        expect(page.get_by_text("Docker", exact=False).first).to_be_attached()
        page.get_by_role("button", name="Create").click()
        expect(page.locator("header h1")).to_have_text(name)
    page.keyboard.press("Alt+ArrowDown")
    expect(page.locator("header h1")).to_have_text("Alpha test")
    page.locator("header").get_by_role("button", name="Settings of Alpha test").click()
    page.get_by_label("Name").fill("Gamma test")
    page.get_by_label("Never ask").check()
    page.get_by_role("button", name="Save").click()
    expect(page.locator("header h1")).to_have_text("Gamma test")
    page.locator("header").get_by_role("button", name="Settings of Gamma test").click()
    expect(page.get_by_label("Never ask")).to_be_checked()
    page.get_by_role("button", name="Delete agent").click()
    expect(page.get_by_role("button", name="Keep it")).to_be_focused()
    page.get_by_role("button", name="Delete agent").click()
    expect(page.locator("agent-list").get_by_text("Gamma test")).to_have_count(0)
    expect(page.locator("agent-list").get_by_text("Beta test")).to_have_count(1)


def test_a_hidden_agent_that_needs_you_is_announced_in_the_title(visit: Visit) -> None:
    """Whoever looks at another agent, or another tab, sees that somebody waits."""
    visit.send("/sim ask Bash make")
    expect(visit.permission).to_be_visible()
    visit.new_agent()
    expect(visit.page).to_have_title(re.compile(r"^\(\d+\) Needs you"))
    item = visit.page.locator("agent-list li").first
    expect(item.locator(".badge")).to_have_text("Needs you")
    item.locator(".agent").click()
    visit.permission.get_by_role("button", name="Allow", exact=True).click()
    visit.await_ending()
