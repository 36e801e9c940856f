"""Input methods: one Enter sends once in Korean, and only confirms in Japanese."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from playwright.sync_api import CDPSession, expect

from tests.browser.visit import Visit

ENTER_COMPOSING = {
    "type": "rawKeyDown",
    "windowsVirtualKeyCode": 229,
    "key": "Enter",
    "code": "Enter",
}
ENTER = {
    "type": "keyDown",
    "windowsVirtualKeyCode": 13,
    "key": "Enter",
    "code": "Enter",
    "text": "\r",
}
ENTER_UP = {"type": "keyUp", "windowsVirtualKeyCode": 13, "key": "Enter", "code": "Enter"}


def compose(session: CDPSession, text: str) -> None:
    """Have the input method show a text that is not confirmed."""
    at = len(text)
    session.send(
        "Input.imeSetComposition", {"text": text, "selectionStart": at, "selectionEnd": at}
    )


def play(session: CDPSession, steps: Sequence[str | dict[str, Any]]) -> None:
    """Play key events, and texts that the input method commits."""
    for step in steps:
        if isinstance(step, str):
            session.send("Input.insertText", {"text": step})
        else:
            session.send("Input.dispatchKeyEvent", step)


@pytest.mark.parametrize(
    "steps",
    [
        (ENTER_COMPOSING, "요", ENTER_UP),
        (ENTER_COMPOSING, "요", ENTER, ENTER_UP),
        ("요", ENTER, ENTER_UP),
    ],
    ids=["key during the composition", "key during and after it", "key after it"],
)
def test_one_enter_sends_a_korean_prompt_once(
    visit: Visit, steps: Sequence[str | dict[str, Any]]
) -> None:
    """The whole sentence, its last syllable included, in every order Chromium delivers."""
    session = visit.page.context.new_cdp_session(visit.page)
    visit.field.focus()
    visit.page.keyboard.insert_text("안녕하세")
    compose(session, "요")
    play(session, steps)
    visit.await_ending()

    assert ["안녕하세요"] == visit.prompts.all_inner_texts()
    assert "" == visit.field.input_value()
    expect(visit.messages).to_contain_text("사용자 메시지: 안녕하세요")


def test_enter_only_confirms_japanese(visit: Visit) -> None:
    """The first Enter takes the candidate, the second sends."""
    session = visit.page.context.new_cdp_session(visit.page)
    visit.field.focus()
    compose(session, "日本")
    play(session, (ENTER_COMPOSING, "日本", ENTER_UP))
    expect(visit.field).to_have_value("日本")
    assert 0 == visit.prompts.count()
    visit.page.keyboard.press("Enter")
    visit.await_ending()

    assert ["日本"] == visit.prompts.all_inner_texts()


def test_shift_enter_makes_a_line(visit: Visit) -> None:
    """Enter with Shift is a line, without it sends both."""
    visit.field.press_sequentially("one")
    visit.field.press("Shift+Enter")
    visit.field.press_sequentially("two")
    expect(visit.field).to_have_value("one\ntwo")
    visit.field.press("Enter")
    expect(visit.prompts).to_have_text("one\ntwo")
