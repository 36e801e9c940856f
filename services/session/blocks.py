"""Text still being written: pieces that grow by fragments until their item comes.

Does not know who reads them, nor how an update is encoded.
"""

from __future__ import annotations

from services.session.encoding import escaped

_MOST_PARTS = 512
"""Fragments kept apart; more are joined, since a short text costs 60 bytes of its own."""


class Block:
    """A piece still being written.

    Readers keep the length they have seen and ask for the rest.

    Attributes:
        block_id: Identifies it within its turn.
        thought: True for an `AgentThought`.
        length: Characters so far.
    """

    __slots__ = ("_escaped", "_joined", "_parts", "block_id", "length", "thought")

    def __init__(self, *, block_id: str, thought: bool, text: str) -> None:
        self.block_id = block_id
        self.thought = thought
        self.length = len(text)
        self._joined = text
        self._parts: list[str] = []
        self._escaped: tuple[int, int, bytes] | None = None

    def again(self) -> Block:
        """Return another one with the same text, of which no reader has seen anything."""
        return Block(block_id=self.block_id, thought=self.thought, text=self.text())

    def append(self, text: str) -> None:
        """Add a fragment."""
        self._parts.append(text)
        self.length += len(text)
        if len(self._parts) >= _MOST_PARTS:
            self._join()

    def text(self, seen: int = 0) -> str:
        """Return the text after its first `seen` characters."""
        if seen < len(self._joined):
            self._join()
            return self._joined[seen:]
        missing = self.length - seen
        if self._parts and len(self._parts[-1]) == missing:
            # Who reads as fast as it is written, as most do.
            return self._parts[-1]
        taken = 0
        first = len(self._parts)
        while taken < missing:
            first -= 1
            taken += len(self._parts[first])
        # A reader has always seen whole fragments, so nothing is cut here.
        return "".join(self._parts[first:])

    def escaped(self, seen: int = 0) -> bytes:
        """Return the same as the inside of a JSON string; made once for all readers."""
        made = self._escaped
        if made is not None and made[0] == seen and made[1] == self.length:
            return made[2]
        encoded = escaped(self.text(seen))
        self._escaped = (seen, self.length, encoded)
        return encoded

    def _join(self) -> None:
        if self._parts:
            self._joined += "".join(self._parts)
            self._parts.clear()
