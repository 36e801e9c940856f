"""Finds in a request what would have the provider reach other machines for an agent that must not.

Does not know who asks, nor parse the request: it may be large, and leaves while it comes.
"""

from __future__ import annotations

import re

_TYPE, _SERVERS = b'"type"', b'"mcp_servers"'
_REACHING = re.compile(
    # Tools that the provider runs, and what it is to fetch by an address. Within text the quotes
    # would be escaped.
    _TYPE
    + rb'\s*:\s*"(?:web_search_|web_fetch_|code_execution_|mcp_toolset"|url")|'
    # Servers of the agent's that it is to call.
    + _SERVERS
    + rb"\s*:"
)
_NUMBERED = re.compile(rb"\\u00(?:3[0-9]|4[1-9a-fA-F]|5[0-9aAfF]|6[1-9a-fA-F]|7[0-9aA])")
"""A letter, a figure or an underscore that is written by its number."""
_BEGUN = re.compile(rb'"[a-z_]+"\s*(?::\s*(?:"[a-z_]*)?)?\Z')
_SPACE = re.compile(rb"\s+")
_OVERLAP = 64
"""Bytes of a piece that are looked at again with the next; the longest of these has half."""


class Look:
    """Looks at one request, piece by piece."""

    def __init__(self) -> None:
        self._tail = b""

    def finds(self, piece: bytes) -> bool:
        """Tell whether the request, with its next piece, is one of those."""
        text = self._tail + piece
        # The first byte is there to be looked back at.
        if _REACHING.search(text) or _hides(text, min(1, len(self._tail))):
            return True
        self._tail = self._kept(text)
        return False

    def _kept(self, text: bytes) -> bytes:
        # There may be any space between the words.
        begun = _BEGUN.match(text, max(0, text.rfind(_TYPE), text.rfind(_SERVERS)))
        return text[-_OVERLAP:] if begun is None else _SPACE.sub(b" ", begun[0])[:_OVERLAP]


def _hides(text: bytes, start: int) -> bool:
    """Tell whether words are written as no program does but to hide them.

    By numbers, or in an encoding that has zeros between the letters.
    """
    numbered = _NUMBERED.finditer(text, start)
    # Behind another backslash it is only talked about.
    return b"\0" in text or any(text[at.start() - 1 : at.start()] != b"\\" for at in numbered)
