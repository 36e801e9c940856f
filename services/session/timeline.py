"""The live end of one agent's history: recent events and text being written.

Whoever follows keeps a cursor and takes what lies behind it, so that nothing is
queued for anybody. Does not know the store, nor where its input comes from.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from services.chassis.failures import Failure
from services.session.blocks import Block
from services.session.encoding import LoggedEvent

_MOST_EVENTS = 128
_MOST_BYTES = 64 * 1024
"""What an agent keeps in memory; older events are read from the store."""


class Follower(Protocol):
    """Somebody who follows a timeline.

    Attributes:
        mark: Called for every piece of news, thousands of times a second; sets a
            flag and returns.
    """

    mark: Callable[[], None]

    def discarded(self, block: Block) -> None:
        """Hear that a block was taken back; called before `mark`."""
        ...

    def end(self, failure: Failure) -> None:
        """Hear that nothing will follow, and why."""
        ...


class Timeline:
    """Recent events, open blocks, and who follows them.

    Attributes:
        head: Number of the newest event.
        blocks: Pieces still being written, by id, in the order they began.
        whole: False while there may be pieces that are not known here yet.
    """

    __slots__ = ("_bytes", "_ended", "_events", "_followers", "_timer", "blocks", "head", "whole")

    def __init__(self, *, head: int) -> None:
        self.head = head
        self.blocks: dict[str, Block] = {}
        self.whole = True
        self._timer: asyncio.TimerHandle | None = None
        self._events: deque[LoggedEvent] = deque()
        self._bytes = 0
        self._followers: list[Follower] = []
        self._ended: Failure | None = None

    @property
    def first(self) -> int:
        """Number of the oldest event kept; `head + 1` when none is."""
        return self.head + 1 - len(self._events)

    @property
    def followed(self) -> bool:
        """True while somebody follows."""
        return bool(self._followers)

    def after(self, sequence: int) -> Iterator[LoggedEvent]:
        """Return the events kept after a number, which must be at least `first - 1`."""
        missing = self.head - sequence
        if not missing:
            return iter(())
        events = self._events
        return (events[index] for index in range(len(events) - missing, len(events)))

    def follow(self, follower: Follower) -> None:
        """Add a follower; one that comes too late is told so."""
        if self._ended is not None:
            follower.end(self._ended)
            return
        self._followers.append(follower)

    def leave(self, follower: Follower) -> None:
        """Take a follower off. Repeating it changes nothing."""
        if follower in self._followers:
            self._followers.remove(follower)

    def expect(self, seconds: float) -> None:
        """Hear that there may be pieces that are not known yet, for so long at most."""
        self.whole = False
        self._stop_timer()
        self._timer = asyncio.get_running_loop().call_later(seconds, self.complete)

    def complete(self) -> None:
        """Hear that every piece is known. Repeating it changes nothing."""
        if not self.whole:
            self.whole = True
            self._stop_timer()
            self._mark()

    def publish(self, events: Sequence[LoggedEvent], *, running: str = "") -> None:
        """Add events that are stored; they end the blocks they complete.

        Args:
            events: In order.
            running: Id of the turn whose blocks there are; empty when none runs.
        """
        for event in events:
            self._events.append(event)
            self._bytes += len(event.json)
            if event.closes_blocks and running not in ("", event.turn_id):
                # A turn that waited has ended. Followers do not know which turn a block is
                # of: they take all for ended, and are given those that go on once more.
                self.blocks = {name: block.again() for name, block in self.blocks.items()}
            elif event.closes_blocks:
                self.blocks.clear()
                self.complete()
            elif event.block_id:
                self.blocks.pop(event.block_id, None)
        if events:
            self.head = events[-1].sequence
        while len(self._events) > _MOST_EVENTS or self._bytes > _MOST_BYTES:
            self._bytes -= len(self._events.popleft().json)
        self._mark()

    def extend(self, block_id: str, text: str, *, thought: bool) -> None:
        """Add a fragment to a block, which begins with it when it is new."""
        block = self.blocks.get(block_id)
        if block is None:
            self.blocks[block_id] = Block(block_id=block_id, thought=thought, text=text)
        else:
            block.append(text)
        for follower in self._followers:
            follower.mark()

    def replace(self, block_id: str, text: str, *, thought: bool) -> None:
        """Tell all of a block's text so far, which may go on from what is known."""
        block = self.blocks.get(block_id)
        if block is None or block.thought != thought or not text.startswith(block.text()):
            self.blocks[block_id] = Block(block_id=block_id, thought=thought, text=text)
        elif len(text) > block.length:
            block.append(text[block.length :])
        self._mark()

    def discard(self, block_id: str) -> None:
        """Take a block back. An unknown one is passed over."""
        block = self.blocks.pop(block_id, None)
        if block is None:
            return
        for follower in self._followers:
            follower.discarded(block)
        self._mark()

    def end(self, failure: Failure) -> None:
        """Tell every follower that nothing will follow."""
        self._stop_timer()
        self._ended = failure
        for follower in list(self._followers):
            follower.end(failure)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _mark(self) -> None:
        for follower in self._followers:
            follower.mark()
