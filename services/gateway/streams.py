"""What users follow, held once and read by any number of readers.

A stream takes in what the session service sends; a reader remembers how far one
client has come and turns the rest into encoded updates. A reader that waits
gets more in one piece later; nothing is queued for it. Does not know
connections, calls or the event loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from moorline.session.v1 import events_pb2, feed_pb2
from services.chassis.failures import Failure
from services.gateway.encoding import Encoding


class Reader(Protocol):
    """How far one client has come in a stream."""

    def take(self, budget: int) -> tuple[list[bytes], bool]:
        """Return the updates it has not seen, and whether more is waiting.

        Args:
            budget: Stop after this many bytes; passed by at most one update.
        """


class Stream(Protocol):
    """What one upstream subscription brings.

    Attributes:
        live: True from the checkpoint on, False again after `reset`.
        failure: Why nothing will follow; None as long as something may.
    """

    live: bool
    failure: Failure | None

    def apply(self, updates: Sequence[feed_pb2.EncodedUpdate]) -> bool:
        """Take in news.

        Returns:
            False when something is missing before them; they were ignored then,
            and the stream must be subscribed to again.
        """

    def reset(self) -> None:
        """Prepare for a new subscription, which repeats part of what is known."""

    def fill(self, request: feed_pb2.SubscribeRequest) -> None:
        """Set what is to be followed, from the position reached."""


@dataclass(frozen=True, slots=True)
class _Event:
    encoded: bytes
    block_id: str
    closes_blocks: bool


class _Block:
    """A piece still being written."""

    __slots__ = ("opening", "serial", "stale", "text")

    def __init__(self, serial: int, opening: bytes, text: bytes) -> None:
        self.serial = serial
        # How an update with some of its text begins.
        self.opening = opening
        self.text = bytearray(text)
        self.stale = False


class EventStream:
    """An agent's events from some point on, and its pieces still being written.

    Args:
        parent: `users/{user}/agents/{agent}`.
        after: Sequence after which it begins.
        encoding: Encoding of everything held.
        log_id: The history that `after` counts in; empty when that is not known.

    Attributes:
        log_id: The history its sequences count in; empty until a checkpoint tells.
    """

    __slots__ = (
        "_parent", "_serial", "base", "blocks", "encoding", "events", "failure", "head", "live",
        "log_id", "size",
    )  # fmt: skip

    def __init__(self, *, parent: str, after: int, encoding: Encoding, log_id: str = "") -> None:
        self.live = False
        self.failure: Failure | None = None
        self.size = 0
        self.encoding = encoding
        self.head = after
        self.base = after
        self.log_id = log_id
        # `events[i]` has the sequence `base + 1 + i`: sequences have no holes.
        self.events: list[_Event] = []
        self.blocks: dict[str, _Block] = {}
        self._parent = parent
        self._serial = 0

    def covers(self, after: int, log_id: str = "") -> bool:
        """True when a reader that has seen `after` can be given the rest.

        Args:
            after: Sequence of the last event it has.
            log_id: The history that counts in; empty when the reader does not know.
        """
        return (
            self.base <= after <= self.head and self.failure is None and log_id in ("", self.log_id)
        )

    def fill(self, request: feed_pb2.SubscribeRequest) -> None:
        """See `Stream`."""
        request.encoding = self.encoding.wire
        request.watch_events.CopyFrom(
            events_pb2.WatchEventsRequest(
                parent=self._parent,
                after_sequence=self.head,
                include_deltas=True,
                log_id=self.log_id,
            )
        )

    def apply(self, updates: Sequence[feed_pb2.EncodedUpdate]) -> bool:
        """See `Stream`."""
        for update in updates:
            kind = update.WhichOneof("update")
            if kind == "delta":
                self._extend(update.delta)
            elif kind == "event":
                if not self._append(update.event):
                    return False
            elif kind == "discarded_block_id":
                self.blocks.pop(update.discarded_block_id, None)
            elif kind == "checkpoint":
                for block_id in [key for key, block in self.blocks.items() if block.stale]:
                    del self.blocks[block_id]
                self.log_id = update.checkpoint.log_id or self.log_id
                self.live = True
        return True

    def reset(self) -> None:
        """See `Stream`. Pieces are kept until the checkpoint tells which were taken back."""
        self.live = False
        for block in self.blocks.values():
            block.stale = True

    @property
    def held(self) -> int:
        """Bytes of events, and of pieces still being written."""
        # A loop: asked for with each update, and a generator takes twice as long.
        held = self.size
        for block in self.blocks.values():
            held += len(block.text)
        return held

    def base_within(self, size: int) -> int:
        """Return the `base` it would have if it held at most `size` bytes of events."""
        excess, base = self.size - size, self.base
        while excess > 0 and base < self.head:
            excess -= len(self.events[base - self.base].encoded)
            base += 1
        return base

    def drop(self, base: int) -> None:
        """Give up the events up to sequence `base`; nothing when they are gone."""
        count = max(0, base - self.base)
        self.size -= sum(len(event.encoded) for event in self.events[:count])
        del self.events[:count]
        self.base += count

    def give_back(self, after: int, size: int) -> None:
        """Hold at most `size` bytes until there is a new subscription, which brings the rest.

        The newest go first, and the events up to `after` last, which somebody has seen.
        """
        self.reset()
        excess, head = self.held - size, self.head
        while excess > 0 and self.head > after:
            excess -= len(self.events[-1].encoded)
            self.size -= len(self.events.pop().encoded)
            self.head -= 1
        if excess > 0 or self.head < head:
            # They come after the events that are gone, and must not be seen before.
            self.blocks.clear()
        self.drop(self.base_within(size))

    def _append(self, event: feed_pb2.EncodedEvent) -> bool:
        if event.sequence <= self.head:
            return True
        if event.sequence != self.head + 1:
            return False
        # A copy: the message would keep the whole response it came in alive.
        stored = _Event(event.encoded, event.block_id, event.closes_blocks)
        self.events.append(stored)
        self.size += len(stored.encoded)
        self.head = event.sequence
        if stored.closes_blocks:
            self.blocks.clear()
        elif stored.block_id:
            self.blocks.pop(stored.block_id, None)
        return True

    def _extend(self, delta: feed_pb2.EncodedDelta) -> None:
        block = self.blocks.get(delta.block_id)
        text = delta.text
        if block is None:
            self._open(delta, text)
        elif not delta.snapshot:
            block.text += text
        elif text.startswith(block.text):
            # The usual one after a new subscription: readers go on where they are.
            block.text += text[len(block.text) :]
            block.stale = False
        else:
            self._open(delta, text)

    def _open(self, delta: feed_pb2.EncodedDelta, text: bytes) -> None:
        self._serial += 1
        opening = self.encoding.delta_opening(delta.block_id, thought=delta.thought)
        self.blocks[delta.block_id] = _Block(self._serial, opening, text)


class EventReader:
    """A client's position in an agent's events.

    Args:
        stream: What to read; must cover `after`.
        after: Sequence of the last event the client has.
        deltas: True when it wants pieces still being written, too.
    """

    __slots__ = ("_checkpointed", "_deltas", "_seen", "_stream", "sequence")

    def __init__(self, stream: EventStream, *, after: int, deltas: bool) -> None:
        self.sequence = after
        self._stream = stream
        self._deltas = deltas
        self._checkpointed = False
        # By block id, what the client shows of it: which block, how many bytes.
        self._seen: dict[str, tuple[int, int]] = {}

    @property
    def log_id(self) -> str:
        """The history that `sequence` counts in; empty until that is known."""
        return self._stream.log_id

    @property
    def fallen(self) -> bool:
        """True when what comes next for it is no longer held."""
        return self.sequence < self._stream.base

    def fits(self, stream: EventStream) -> bool:
        """True when it could go on in another stream without sending a piece again."""
        return stream.covers(self.sequence, self.log_id) and all(
            _goes_on(self._stream.blocks.get(block_id), seen, stream.blocks.get(block_id))
            for block_id, seen in self._seen.items()
        )

    def move(self, stream: EventStream) -> None:
        """Go on in another stream of the same agent, which must cover the position."""
        for block_id, seen in self._seen.items():
            old, new = self._stream.blocks.get(block_id), stream.blocks.get(block_id)
            fits = new is not None and _goes_on(old, seen, new)
            # Where it does not fit, the piece is sent whole once more.
            self._seen[block_id] = (new.serial, seen[1]) if new and fits else (0, 0)
        self._stream = stream

    def take(self, budget: int) -> tuple[list[bytes], bool]:
        """See `Reader`."""
        updates: list[bytes] = []
        stream = self._stream
        if self.sequence < stream.head and self._take_events(updates, budget):
            return updates, True
        if self._deltas and (stream.blocks or self._seen):
            self._take_blocks(updates)
        if stream.live and not self._checkpointed:
            self._checkpointed = True
            updates.append(stream.encoding.checkpoint(stream.head, stream.log_id))
        return updates, False

    def _take_events(self, updates: list[bytes], budget: int) -> bool:
        stream = self._stream
        for index in range(self.sequence - stream.base, len(stream.events)):
            if budget <= 0:
                return True
            event = stream.events[index]
            updates.append(event.encoded)
            budget -= len(event.encoded)
            self.sequence += 1
            if event.closes_blocks:
                self._seen.clear()
            elif event.block_id:
                self._seen.pop(event.block_id, None)
        return False

    def _take_blocks(self, updates: list[bytes]) -> None:
        stream, seen = self._stream, self._seen
        for block_id, block in stream.blocks.items():
            serial, offset = seen.get(block_id, (0, 0))
            text, end = block.text, len(block.text)
            snapshot = serial != block.serial
            if not snapshot:
                if offset == end:
                    continue
                text = text[offset:]
            seen[block_id] = (block.serial, end)
            updates.append(stream.encoding.delta(block.opening, text, snapshot=snapshot))
        if len(seen) > len(stream.blocks) and stream.live:
            for block_id in [key for key in seen if key not in stream.blocks]:
                del seen[block_id]
                updates.append(stream.encoding.discarded(block_id))


def _goes_on(old: _Block | None, seen: tuple[int, int], new: _Block | None) -> bool:
    """True when what was seen of one stream's block is how another one's begins."""
    serial, offset = seen
    if old is None or new is None or old.serial != serial or len(new.text) < offset:
        return False
    return old.text[:offset] == new.text[:offset]
