"""Text still being written, and the rule that makes its deltas add up.

Knows deltas and complete pieces, and nothing of connections. Whatever is lost
and sent again in between, the deltas handed out for a block, put together, are
the text of its complete piece.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from moorline.events import MessageDiscarded, TextDelta
from moorline.updates import make_delta, make_discarded


@dataclass(slots=True, kw_only=True)
class _Block:
    thought: bool
    confirmed: bool = True
    fragments: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        text = "".join(self.fragments)
        self.fragments = [text]
        return text


class OpenBlocks:
    """The pieces being written in the turn that runs."""

    def __init__(self) -> None:
        self._blocks: dict[str, _Block] = {}
        # Turns that were heard of and have not ended; they run in this order.
        self._turns: dict[str, None] = {}

    def heard(self, turn_id: str, *, begins: bool) -> None:
        """Note that there is a turn.

        Args:
            turn_id: The turn.
            begins: False for what is not its first event: when that was not heard,
                the turn was there before all others.
        """
        if turn_id not in self._turns:
            rest = self._turns
            self._turns = {**rest, turn_id: None} if begins else {turn_id: None, **rest}

    def extend(self, delta: TextDelta) -> TextDelta | None:
        """Take in a delta and return what is new about it; None when nothing is.

        A snapshot that continues what is known becomes a plain delta.
        """
        block = self._blocks.get(delta.block_id)
        if block is None:
            block = _Block(thought=delta.thought)
            self._blocks[delta.block_id] = block
            block.fragments.append(delta.text)
            return delta
        block.confirmed = True
        if not delta.snapshot:
            block.fragments.append(delta.text)
            return delta
        known = block.text
        block.fragments = [delta.text]
        if not delta.text.startswith(known):
            return delta
        rest = delta.text[len(known) :]
        return make_delta(delta.block_id, rest, thought=delta.thought) if rest else None

    def complete(self, block_id: str, text: str, *, thought: bool) -> TextDelta | None:
        """Close a block and return the text that was never handed out."""
        block = self._blocks.pop(block_id, None)
        known = block.text if block else ""
        if text == known:
            return None
        if text.startswith(known):
            return make_delta(block_id, text[len(known) :], thought=thought)
        return make_delta(block_id, text, thought=thought, snapshot=True)

    def discard(self, block_id: str) -> bool:
        """Forget a block; False when there was none."""
        return self._blocks.pop(block_id, None) is not None

    def over(self, turn_id: str, *, ended: bool) -> Iterator[MessageDiscarded]:
        """Forget every block, unless the turn that is over was only waiting.

        Args:
            turn_id: The turn.
            ended: False when another attempt of it begins.
        """
        running = next(iter(self._turns), turn_id)
        if ended:
            self._turns.pop(turn_id, None)
        if turn_id != running:
            return iter(())
        blocks, self._blocks = self._blocks, {}
        return (make_discarded(block_id) for block_id in blocks)

    def doubt(self) -> None:
        """Note that the stream begins anew: each block must be confirmed by a snapshot."""
        for block in self._blocks.values():
            block.confirmed = False

    def settle(self) -> list[MessageDiscarded]:
        """Forget each block that was not confirmed: it was taken back meanwhile."""
        gone = [name for name, block in self._blocks.items() if not block.confirmed]
        for name in gone:
            del self._blocks[name]
        return [make_discarded(name) for name in gone]
