"""Tests of `services.session.blocks`: text that grows under its readers."""

from __future__ import annotations

import pytest

from services.session.blocks import Block
from services.session.encoding import escaped


def test_a_reader_gets_what_it_has_not_seen() -> None:
    """From any fragment's end, the rest is whole."""
    block = Block(block_id="b", thought=False, text="one ")
    ends = [0, block.length]
    for word in ("two ", "", "three"):
        block.append(word)
        ends.append(block.length)

    assert 13 == block.length
    assert ["one two three", "two three", "three", "three", ""] == [block.text(end) for end in ends]


def test_a_long_block_stays_small() -> None:
    """However many fragments came, readers at any of their ends go on."""
    block = Block(block_id="b", thought=False, text="")
    seen = 0
    collected = ""
    for number in range(3000):
        block.append(f"{number} ")
        if number % 7 == 0:
            collected += block.text(seen)
            seen = block.length

    assert block.text() == collected + block.text(seen)
    assert block.text().startswith("0 1 2 ")


@pytest.mark.parametrize("seen", [0, 4])
def test_an_escaped_text_is_made_once_for_readers_in_step(seen: int) -> None:
    """And anew when there is more."""
    block = Block(block_id="b", thought=True, text="one ")
    block.append('"two"')

    first = block.escaped(seen)
    assert first is block.escaped(seen)
    assert escaped(block.text(seen)) == first

    block.append("!")
    assert escaped(block.text(seen)) == block.escaped(seen) != first
