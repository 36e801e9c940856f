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
_HIDDEN = re.compile(
    # JSON may write a letter by its number, or be in an encoding with zeros between the letters;
    # no program does that to these words but to hide them.
    rb"(?<!\\)\\u00(?:3[0-9]|4[1-9a-fA-F]|5[0-9aAfF]|6[1-9a-fA-F]|7[0-9aA])|\0"
)
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
        if _REACHING.search(text) or _HIDDEN.search(text, min(1, len(self._tail))):
            return True
        self._tail = self._kept(text)
        return False

    def _kept(self, text: bytes) -> bytes:
        # There may be any space between the words.
        begun = _BEGUN.match(text, max(0, text.rfind(_TYPE), text.rfind(_SERVERS)))
        return text[-_OVERLAP:] if begun is None else _SPACE.sub(b" ", begun[0])[:_OVERLAP]
