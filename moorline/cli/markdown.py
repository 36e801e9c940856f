"""Markdown that grows, cut into blocks that will not change any more.

Printing a whole message anew for each fragment costs more with every fragment;
a finished block is printed once. Does not know terminals.
"""

from __future__ import annotations

from markdown_it import MarkdownIt


class GrowingMarkdown:
    """One message being written; keeps only its unfinished end."""

    def __init__(self) -> None:
        self.tail = ""
        self._parser = MarkdownIt("commonmark").enable("table")

    def feed(self, text: str) -> str:
        """Add text and return the blocks it finished; empty when it finished none."""
        self.tail += text
        if "\n" not in text:
            return ""
        # Half a line may still turn out to belong to the block before it.
        whole = self.tail[: self.tail.rfind("\n") + 1]
        starts = [
            token.map[0]
            for token in self._parser.parse(whole)
            if token.level == 0 and token.map and token.nesting >= 0
        ]
        if len(starts) < 2:
            return ""
        # A block is finished when another one has begun after it.
        lines = self.tail.splitlines(keepends=True)
        finished = "".join(lines[: starts[-1]])
        self.tail = "".join(lines[starts[-1] :])
        return finished

    def finish(self) -> str:
        """Return what is left and begin a new message."""
        rest, self.tail = self.tail, ""
        return rest
