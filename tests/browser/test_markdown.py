"""Long answers: what is finished is left alone."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.browser.visit import Visit

GROW = """async ({text, pieces}) => {
  const view = document.createElement('markdown-view');
  document.body.append(view);
  const step = Math.ceil(text.length / pieces);
  let frames = 0;
  for (let end = step; end < text.length + step; end += step) {
    view.content = {text: text.slice(0, end), writing: true};
    if (end % (step * 10) === 0) {
      await new Promise(requestAnimationFrame);
      frames += 1;
    }
  }
  const first = view.firstElementChild;
  view.content = {text, writing: false};
  while (view.hasAttribute('pending')) await new Promise(requestAnimationFrame);
  const result = {
    lexed: view.lexed,
    rendered: view.rendered,
    blocks: view.childElementCount,
    kept: first === view.firstElementChild,
    text: view.textContent.length,
  };
  view.remove();
  return result;
}"""


def test_a_long_answer_renders_each_block_about_once(visit: Visit) -> None:
    """100 kB in 2,500 pieces: a finished block keeps its element and is parsed once.

    Rendering everything for each piece would be 2,500 times 700 blocks.
    """
    text = "\n\n".join(f"Block {number} {'word ' * 26}" for number in range(700))
    result = visit.page.evaluate(GROW, {"text": text, "pieces": 2500})

    assert len(text) > 95_000
    assert 700 == result["blocks"]
    assert result["kept"]
    assert result["rendered"] < 700 + 2600
    assert result["lexed"] < 8 * len(text)


def test_code_is_coloured_and_can_be_copied(visit: Visit) -> None:
    """A finished code block gets its colours, its language and a button."""
    visit.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    visit.send("Look:\n\n```python\ndef one() -> int:\n    return 1\n```")
    code = visit.page.locator("markdown-view .code")
    expect(code.locator(".hljs-keyword").first).to_have_text("def")
    code.get_by_role("button", name="Copy").click()
    expect(code.get_by_role("button", name="Copied")).to_be_visible()
    copied = visit.page.evaluate("navigator.clipboard.readText()")

    assert "def one() -> int:\n    return 1" == copied.strip()


def test_a_reader_who_scrolled_up_is_left_there(visit: Visit) -> None:
    """New text does not pull the page down, and a button leads back to it."""
    visit.send("/sim stream 900 2")
    log = visit.page.get_by_role("log")
    expect(visit.messages).to_contain_text("w500")
    log.hover()
    visit.page.mouse.wheel(0, -400)
    expect(visit.page.locator(".jump")).to_be_visible()
    before = log.evaluate("log => log.scrollTop")
    visit.await_ending()
    assert before >= log.evaluate("log => log.scrollTop")
    visit.page.locator(".jump").click()
    expect(visit.page.locator(".jump")).to_have_count(0)
    expect(visit.endings).to_be_in_viewport()
