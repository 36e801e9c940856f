"""Markdown that grows, cut into blocks that will not change any more.

Printing a whole message anew for each fragment costs more with every fragment;
a finished block is printed once. Does not know terminals.
"""

from __future__ import annotations

from markdown_it import MarkdownIt

# The first characters of a line may still turn out to belong to the block before
# it ("#" begins a heading, "#hash" does not); with this many it is decided.
_DECIDED = 10


class GrowingMarkdown:
    """One message being written; keeps only its unfinished end."""

    def __init__(self) -> None:
        self.tail = ""
        self._parser = MarkdownIt("commonmark").enable("table")
        self._last_line_seen = False

    def feed(self, text: str) -> str:
        """Add text and return the blocks it finished; empty when it finished none."""
        self.tail += text
        last_line = len(self.tail) - self.tail.rfind("\n") - 1
        decided = last_line >= _DECIDED
        # Only a new line can begin a block: in between nothing is parsed.
        if "\n" not in text and (self._last_line_seen or not decided):
            return ""
        self._last_line_seen = decided
        whole = self.tail if decided else self.tail[: len(self.tail) - last_line]
        starts = [
            token.map[0]
            for token in self._parser.parse(whole)
            if token.level == 0 and token.map and token.nesting >= 0
        ]
        if len(starts) < 2:
            return ""
        # A block is finished when another one has begun after it.
        lines = self.tail.split("\n")
        finished = "\n".join(lines[: starts[-1]]) + "\n"
        self.tail = "\n".join(lines[starts[-1] :])
        return finished

    def finish(self) -> str:
        """Return what is left and begin a new message."""
        rest, self.tail = self.tail, ""
        self._last_line_seen = False
        return rest
