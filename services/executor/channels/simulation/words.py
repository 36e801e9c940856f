"""The words of one message of the simulated agent, each printed as a fragment.

Does not know scripts, nor when a word is due.
"""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable

import orjson

from services.executor.channels.simulation.frames import DeltaShape, Frames
from services.executor.channels.simulation.lines import Lines

_WORD = re.compile(r"\s*\S+")


class Printer:
    """Prints the words of one message, each as a fragment.

    Small, and not a closure: hundreds of them take turns, so that what one is made of is no
    longer in the processor's cache when it prints again.

    Args:
        frames: Builds the frames.
        shape: What the frames of this message have in common.
        word: Returns the word at a place, counted from 0.
        lines: Where they go.
    """

    __slots__ = ("_frames", "_head", "_lines", "_middle", "_word", "whole")

    def __init__(
        self, *, frames: Frames, shape: DeltaShape, word: Callable[[int], str], lines: Lines
    ) -> None:
        self._frames = frames
        self._head, self._middle = shape
        self._word = word
        self._lines = lines
        # Not a list: millions of short strings would take ten times the memory of their text.
        self.whole = io.StringIO()
        """All words so far."""

    def print_word(self, index: int) -> None:
        """Print the word at a place, counted from 0."""
        text = self._word(index)
        self.whole.write(text)
        frames = self._frames
        frames.count += 1
        line = b'%b%b%b%012x"}' % (self._head, orjson.dumps(text), self._middle, frames.count)
        self._lines.add(line)


def words_of(text: str) -> list[str]:
    """Cut a text after each word, so that the parts make up the whole text."""
    words = _WORD.findall(text)
    rest = text[sum(map(len, words)) :]
    if rest:
        words.append(rest)
    return words


def numbered(index: int) -> str:
    """Return the word at a place of a stream, counted from 0."""
    return f" w{index + 1}" if index else "w1"


def now(index: int) -> str:
    """Return the time as the word at a place of a stream."""
    microseconds = time.time_ns() // 1000
    return f" {microseconds}" if index else str(microseconds)
