"""What the page lets nobody do."""

from __future__ import annotations

import re
from collections.abc import Callable

from playwright.sync_api import expect

from tests.browser.visit import Visit, login_state
from tests.system.stack import Stack

ATTACKS = (
    "<img src=x onerror=window.hit=1>",
    "<script>window.hit=1</script>",
    "<svg onload=window.hit=1>",
    "[click](javascript:window.hit=1)",
    "[data](data:text/html,<script>window.hit=1</script>)",
    "![beacon](https://evil.example/pixel.png)",
    "<iframe srcdoc='<script>parent.hit=1</script>'></iframe>",
    "<a href='javascript:window.hit=1'>link</a>",
    "<form action=/v1/logout method=post><button>x</button></form>",
    "<style>body{display:none}</style>",
    "`<b>code</b>`",
    "[fine](https://example.com/docs)",
)


def test_nothing_an_agent_writes_can_act(visit: Visit) -> None:
    """Raw HTML is text, images are links, addresses that run code lead nowhere."""
    visit.send("\n".join(f"/sim say {attack}" for attack in ATTACKS))
    visit.await_ending()
    log = visit.page.locator("transcript-view")
    expect(visit.messages).to_have_count(len(ATTACKS))

    assert visit.page.evaluate("window.hit") is None
    assert 0 == log.locator("img, script, svg, iframe, form, style").count()
    assert 0 == log.locator("markdown-view [onerror], markdown-view [onload]").count()
    links = log.locator("markdown-view a[href]").evaluate_all("links => links.map(a => a.href)")
    assert ["https://evil.example/pixel.png", "https://example.com/docs"] == links
    rels = log.locator("markdown-view a").evaluate_all("links => links.map(a => [a.rel, a.target])")
    assert [["noopener noreferrer", "_blank"]] * len(rels) == rels
    expect(visit.messages.nth(0)).to_have_text("<img src=x onerror=window.hit=1>")


def test_attacks_in_names_inputs_and_prompts_are_text(visit: Visit) -> None:
    """What a user or a tool says is shown as it is, wherever it is shown."""
    attack = "<img src=x onerror=window.hit=1>"
    visit.send(f"/sim ask {attack.replace(' ', '')} {attack}")
    expect(visit.permission).to_contain_text(attack)
    visit.permission.get_by_role("button", name="Deny").click()
    visit.await_ending()

    assert visit.page.evaluate("window.hit") is None
    assert 0 == visit.page.locator("img[onerror]").count()


def test_the_token_leaves_the_address(visits: Callable[..., Visit], stack: Stack) -> None:
    """After the login it is in no address, no history entry and no storage."""
    visit = visits(stack)

    assert stack.token not in visit.page.url
    assert login_state(visit.page.context)
    assert stack.token not in visit.page.evaluate("JSON.stringify({...localStorage})")
    assert stack.token not in visit.page.evaluate("document.documentElement.outerHTML")


def test_signing_out_and_in(visits: Callable[..., Visit], stack: Stack) -> None:
    """Signing out forgets what the browser kept; a wrong token is refused in words."""
    visit = visits(stack)
    visit.expected.append("401")
    visit.field.fill("a secret draft")
    visit.page.reload()
    visit.page.get_by_role("button", name="Sign out").click()
    field = visit.page.get_by_label("Token")
    expect(field).to_be_focused()
    assert "secret" not in visit.page.evaluate("JSON.stringify({...localStorage})")
    field.fill("wrong-token-wrong-token")
    field.press("Enter")
    expect(visit.page.get_by_role("alert")).to_contain_text("not valid")
    field.fill(stack.token)
    field.press("Enter")
    expect(visit.link).to_have_class(re.compile("connected"))


def test_a_prompt_over_the_limit_is_not_sent(visit: Visit) -> None:
    """The count appears before the limit; beyond it, sending is impossible and says why."""
    visit.field.fill("x" * 90_000)
    expect(visit.page.locator(".count-of")).to_have_text("90,000 of 100,000 characters")
    visit.field.fill("가" * 100_001)
    expect(visit.page.locator(".count-of")).to_contain_text("Too long")
    visit.field.press("Enter")
    expect(visit.prompts).to_have_count(0)
    expect(visit.page.get_by_role("button", name="Send", exact=True)).to_be_disabled()
    expect(visit.link).to_have_text("Connected")


def test_a_page_without_its_modules_says_what_to_do(
    visits: Callable[..., Visit], stack: Stack
) -> None:
    """Where the build did not work, the page is not just white."""
    visit = visits(stack, enter=False)
    visit.expected.append("Failed to|ERR_FAILED")
    visit.page.route("**/vendor/lit.js", lambda route: route.abort())
    visit.page.goto(f"{stack.url}/?token={stack.token}")
    expect(visit.page.get_by_text("make setup").first).to_be_visible()
