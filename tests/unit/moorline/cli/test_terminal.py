"""Tests of what a terminal is sent."""

from __future__ import annotations

import io
import re

import moorline
from moorline.cli.invocation import Invocation, Output, Surroundings
from moorline.cli.language import Texts
from moorline.cli.terminal import TerminalView
from moorline.updates import decode_event, make_delta, make_discarded


class Screen(io.StringIO):
    """A standard stream that says it is a terminal."""

    def isatty(self) -> bool:
        """It is."""
        return True


async def nobody(*, turn_id: str, permission_id: str, decision: moorline.Decision) -> None:
    """Answer nothing."""


def view() -> tuple[TerminalView, Screen, Screen]:
    """A view, what it writes, and what it tells."""
    out, err = Screen(), Screen()
    invocation = Invocation(
        url=None,
        token_file=None,
        context=None,
        output=Output.TEXT,
        texts=Texts("en"),
        surroundings=Surroundings(
            stdin=io.StringIO(), stdout=out, stderr=err, environ={"NO_COLOR": "1"}
        ),
    )
    return TerminalView(invocation), out, err


def test_a_finished_block_is_printed_once() -> None:
    """The paragraph after a code block does not print the code block again."""
    shown, out, _ = view()
    text = "```\ncode = 1\n```\n\n" + "word " * 50
    for at in range(0, len(text), 5):
        shown.show(make_delta("b", text[at : at + 5], thought=False))
        shown.pause()
    before = out.getvalue().count("code = 1")
    for _ in range(50):
        shown.show(make_delta("b", "more ", thought=False))
    item = {"agentMessage": {"blockId": "b", "text": text}}
    shown.show(decode_event({"sequence": 1, "item": item}, nobody))
    assert before == out.getvalue().count("code = 1")


def test_two_messages_at_once_are_not_printed_into_each_other() -> None:
    """One that begins before the one ahead is recorded waits for its turn."""
    shown, out, _ = view()
    shown.show(make_delta("a", "first begins", thought=False))
    shown.show(make_delta("b", "second begins\n\nand goes on", thought=False))
    shown.show(make_delta("a", " and ends\n\n", thought=False))
    for number, (block_id, text) in enumerate((("a", "-"), ("b", "-"))):
        item = {"agentMessage": {"blockId": block_id, "text": text}}
        shown.show(decode_event({"sequence": number + 1, "item": item}, nobody))
    text = out.getvalue()
    assert text.rindex("first begins and ends") < text.index("second begins")


def test_an_agent_cannot_control_the_terminal() -> None:
    """Control sequences in an answer, or in a tool's output, arrive without their escape."""
    shown, out, err = view()
    shown.show(make_delta("b", "evil \x1b]0;title\x07 \x9b31m\n\nnext\n\n", thought=False))
    item = {"toolResult": {"toolCallId": "c", "output": "\x1b[2J"}}
    shown.show(decode_event({"sequence": 1, "item": item}, nobody))
    shown.show(make_discarded("b"))
    shown.show(make_delta("b", "again", thought=False, snapshot=True))
    shown.pause()
    ours = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
    assert not {"\x1b", "\x07", "\x9b"} & set(ours.sub("", out.getvalue()) + err.getvalue())
    assert "took the last text back" in err.getvalue()
