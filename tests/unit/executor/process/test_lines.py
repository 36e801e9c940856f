"""Tests of `services.executor.channels.process.lines`."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from services.executor.channel import Exit, ExitReason
from services.executor.channels.process.lines import Lines

ENDED = Exit(0, ExitReason.EXITED)


class Calls:
    """A receiver that notes its calls, and holds after some of them."""

    def __init__(self) -> None:
        self.calls: list[list[bytes] | Exit] = []
        self.lines = Lines(receiver=self, limit=10)
        self.holds = False

    def receive(self, lines: Sequence[bytes]) -> None:
        """Note lines."""
        self.calls.append(list(lines))
        if self.holds:
            self.lines.hold()

    def exited(self, ended: Exit) -> None:
        """Note the end."""
        self.calls.append(ended)


@pytest.fixture
def calls() -> Calls:
    """What a receiver has heard."""
    return Calls()


def test_lines_are_cut_wherever_the_parts_end(calls: Calls) -> None:
    """Several in one call; what is not complete waits."""
    for part in (b"on", b"e\ntwo\nth", b"re", b"e\n\n"):
        assert calls.lines.feed(part)

    assert [[b"one", b"two"], [b"three", b""]] == calls.calls


def test_last_line_needs_no_end(calls: Calls) -> None:
    """It is handed over before the end is told."""
    calls.lines.feed(b"one\nlast")
    calls.lines.end(ENDED)

    assert [[b"one"], [b"last"], ENDED] == calls.calls


def test_what_is_held_waits_for_release(calls: Calls) -> None:
    """The end as well; releasing twice tells nothing twice."""
    calls.lines.hold()
    calls.lines.feed(b"one\n")
    calls.lines.feed(b"two\n")
    calls.lines.end(ENDED)
    held = list(calls.calls)
    calls.lines.release()
    calls.lines.release()

    assert [] == held
    assert [[b"one", b"two"], ENDED] == calls.calls


def test_receiver_that_holds_hears_no_end_yet(calls: Calls) -> None:
    """It may hold while it is called."""
    calls.holds = True
    calls.lines.hold()
    calls.lines.feed(b"one\n")
    calls.lines.end(ENDED)
    calls.lines.release()
    before = list(calls.calls)
    calls.lines.release()

    assert [[b"one"]] == before
    assert [[b"one"], ENDED] == calls.calls


def test_line_without_end_is_told(calls: Calls) -> None:
    """Whatever the parts are; shorter lines may be many."""
    assert calls.lines.feed(b"x" * 8 + b"\n" + b"x" * 8)
    assert not calls.lines.feed(b"xxx")


def test_line_without_end_is_not_kept(calls: Calls) -> None:
    """However long whoever prints it lives on; nothing that follows it is a line."""
    told = [calls.lines.feed(b"xxx") for _ in range(100)]
    told.append(calls.lines.feed(b"x\nshort\n"))

    assert [True] * 3 + [False] * 98 == told
    assert sum(map(len, calls.lines._begun)) <= 10
    assert [] == calls.calls


def test_what_waits_can_be_forgotten(calls: Calls) -> None:
    """Only the end is told then."""
    calls.lines.hold()
    calls.lines.feed(b"one\ntwo")
    calls.lines.drop()
    calls.lines.end(ENDED)
    calls.lines.release()

    assert [ENDED] == calls.calls
