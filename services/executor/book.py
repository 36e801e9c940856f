"""The execution book: what one execution has said, for whoever follows it.

Does not know agents, backends or streams.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeAlias

from moorline.errors.v1 import errors_pb2
from moorline.executor.v1 import executions_pb2, feed_pb2
from moorline.transcript.v1 import transcript_pb2
from services.chassis.failures import Failure

ITEMS_LIMIT = 1_000
"""Items that may wait for an acknowledgement before the agent is held back."""
BYTES_LIMIT = 4 << 20
"""Encoded bytes of items that may wait for an acknowledgement."""

News: TypeAlias = feed_pb2.SubscribedExecution | executions_pb2.WatchExecutionResponse
"""What readers are told in."""

_BESIDES_BYTES = 48
"""About what an update has besides its text or item."""

_CHUNKS = 512
"""Fragments kept apart in a block; more are joined, so that a long text costs its length."""


class Block:
    """Text of one piece that is still being written."""

    __slots__ = ("_chunks", "block_id", "length", "size", "thought")

    def __init__(self, block_id: str, *, thought: bool) -> None:
        self.block_id = block_id
        self.thought = thought
        self.length = 0
        """Characters so far."""
        self.size = 0
        """UTF-8 bytes so far."""
        self._chunks: list[str] = []

    def write(self, text: str, size: int) -> None:
        """Append a fragment of `size` UTF-8 bytes."""
        chunks = self._chunks
        chunks.append(text)
        self.length += len(text)
        self.size += size
        if len(chunks) > _CHUNKS:
            self._chunks = ["".join(chunks)]

    @property
    def text(self) -> str:
        """Everything written so far."""
        return self.after(0)

    def after(self, position: int) -> str:
        """Return the text after the first `position` characters."""
        missing = self.length - position
        chunks = self._chunks
        if chunks and len(chunks[-1]) == missing:
            return chunks[-1]  # Who reads as fast as it is written, as most do.
        index = len(chunks)
        while missing > 0:
            index -= 1
            missing -= len(chunks[index])
        fresh = "".join(chunks[index:])
        return fresh[-missing:] if missing else fresh


class _Record:
    """One numbered item, encoded for its readers."""

    __slots__ = ("block_id", "size", "update")

    def __init__(self, update: executions_pb2.ExecutionUpdate, block_id: str) -> None:
        self.update = update
        self.size = update.ByteSize()
        self.block_id = block_id


class Book:
    """The numbered items of one execution and the pieces still being written.

    Items are numbered 1, 2, 3 …; the last one is the outcome. Parts of the agent's own transcript
    are numbered among them. Both are kept until they are acknowledged. A piece is dropped when the
    item with its block id is recorded or when it is taken back. Of the progress only the newest is
    kept. Readers learn of news when the writer calls `publish`.

    Args:
        adopted: Whether it is written anew, from its beginning, in the place of a book that is
            gone. Its readers may then know more than it has yet; they hear nothing until it has
            come to where they are. It has no bound before it has come there, too.
    """

    __slots__ = (
        "_adopted", "_forgotten", "_known", "_progress", "_readers", "_records", "_room",
        "_stored", "_unbounded", "_waiting_bytes", "blocks", "discards", "ended", "entries", "full",
        "last", "steps",
    )  # fmt: skip

    def __init__(self, *, adopted: bool = False) -> None:
        self.blocks: dict[str, Block] = {}
        """Pieces still being written, oldest first. Written to through `open` and `discard`."""
        self.ended = False
        """Whether the outcome is recorded."""
        self.full = False
        """Whether so much waits for an acknowledgement that nothing should be added."""
        self.last = 0
        """Number of the newest item; 0 when there is none."""
        self.discards = 0
        """How often a piece was taken back; readers compare it with what they know."""
        self.steps = 0
        """How often the progress was told; readers compare it with what they know."""
        self.entries: dict[str, str] = {}
        """Id of the newest entry of the agent's transcript that stands here, by its file."""
        self._adopted = adopted
        self._known = 0
        """Greatest number that somebody was heard to know, as far as that matters."""
        self._stored = 0
        """Greatest number that was acknowledged in an adopted book."""
        self._progress: executions_pb2.ExecutionProgress | None = None
        self._records: list[_Record] = []
        self._forgotten = 0
        self._waiting_bytes = 0
        self._unbounded = False
        self._readers: set[Callable[[], None]] = set()
        self._room: asyncio.Future[None] | None = None

    @property
    def acknowledged(self) -> bool:
        """Whether the outcome is stored for good, so that nobody needs the book any more."""
        return self.ended and not self._records

    @property
    def whole(self) -> bool:
        """Whether nothing was forgotten, so that it can be followed from its beginning."""
        return not self._forgotten

    # What the writer does.

    def append(self, item: transcript_pb2.Item, *, conversation: str = "") -> None:
        """Record an item; it takes the place of the open piece with its block id.

        Args:
            item: The fact.
            conversation: On an outcome, the handle to continue the conversation.
        """
        kind = item.WhichOneof("kind")
        block_id = ""
        if kind == "agent_message":
            block_id = item.agent_message.block_id
        elif kind == "agent_thought":
            block_id = item.agent_thought.block_id
        self.blocks.pop(block_id, None)
        self.ended = kind == "turn_outcome"
        if self.ended and self.last < self._known:
            self._skip()
        self._add(executions_pb2.ExecutionEvent(item=item, conversation=conversation), block_id)
        self._weigh()

    def append_transcript(self, part: executions_pb2.TranscriptPart) -> None:
        """Record by what the agent's own transcript has grown; never after the outcome."""
        self.entries[part.file] = part.last_entry
        self._add(executions_pb2.ExecutionEvent(transcript=part), "")
        self._weigh()

    def progress(
        self,
        *,
        queue_position: int | None = None,
        usage: transcript_pb2.Usage | None = None,
    ) -> None:
        """Tell where the execution stands; what is not given stays as it was told before.

        Args:
            queue_position: Place in the queue for a free slot, 1 for the next; 0 once it runs.
            usage: What was consumed so far.
        """
        # A new message each time: readers may still hold the one before.
        told = executions_pb2.ExecutionProgress()
        if self._progress is not None:
            told.CopyFrom(self._progress)
        if queue_position is not None:
            told.queue_position = queue_position
        if usage is not None:
            told.usage.CopyFrom(usage)
        self._progress = told
        self.steps += 1

    def open(self, block_id: str, *, thought: bool) -> Block:
        """Begin a piece whose text follows through `Block.write`."""
        block = self.blocks[block_id] = Block(block_id, thought=thought)
        return block

    def discard(self, block_id: str) -> None:
        """Take back a piece that is still open."""
        if self.blocks.pop(block_id, None) is not None:
            self.discards += 1

    def publish(self) -> None:
        """Tell the readers that something was added. Once for a burst is enough."""
        for mark in self._readers:
            mark()

    async def room(self) -> None:
        """Wait until the book is not full. Waits as long as nobody acknowledges, on purpose."""
        while self.full:
            if self._room is None:
                self._room = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._room)

    def lift_bound(self) -> None:
        """Let the book grow beyond its bound from now on, so that its end can be recorded."""
        self._unbounded = True
        self._weigh()

    # What the readers do.

    def acknowledge(self, sequence: int) -> None:
        """Forget the items up to a number. Numbers already forgotten, or to come, are no error."""
        if self._adopted:
            self._stored = max(self._stored, sequence)
            self._known = max(self._known, sequence)
        self._forget(sequence)
        self._weigh()

    def follow(self, *, after: int, mark: Callable[[], None]) -> Cursor:
        """Return a cursor that stands behind an item.

        Args:
            after: Number of the last item its reader has; 0 for none.
            mark: Called at each `publish` until the cursor is closed; must not fail.

        Raises:
            Failure: SEQUENCE_UNKNOWN when the items that would follow are forgotten, or `after`
                is not recorded yet and the book is not adopted.
        """
        if self._adopted and not self.ended:
            self._known = max(self._known, after)
        if not self._forgotten <= after <= max(self.last, self._known):
            raise Failure(
                errors_pb2.ERROR_REASON_SEQUENCE_UNKNOWN,
                "The position is not in this execution's book; read the last one stored.",
                headSequence=str(self.last),
            )
        self._readers.add(mark)
        return Cursor(self, after, mark)

    def read(self, sequence: int) -> _Record | None:
        """Return an item by number; None when it is forgotten."""
        index = sequence - self._forgotten - 1
        return self._records[index] if index >= 0 else None

    def standing(self) -> executions_pb2.ExecutionUpdate:
        """Return the progress as it was told last."""
        return executions_pb2.ExecutionUpdate(progress=self._progress)

    def leave(self, mark: Callable[[], None]) -> None:
        """Take a reader off; called by its cursor."""
        self._readers.discard(mark)

    def _add(self, event: executions_pb2.ExecutionEvent, block_id: str) -> None:
        now, nanos = divmod(time.time_ns(), 1_000_000_000)
        self.last += 1
        event.sequence = self.last
        event.create_time.seconds = now
        event.create_time.nanos = nanos
        record = _Record(executions_pb2.ExecutionUpdate(event=event), block_id)
        self._records.append(record)
        self._waiting_bytes += record.size
        if self.last <= self._stored:
            self._forget(self.last)

    def _forget(self, sequence: int) -> None:
        count = min(sequence - self._forgotten, len(self._records))
        if count <= 0:
            return
        self._waiting_bytes -= sum(record.size for record in self._records[:count])
        del self._records[:count]
        self._forgotten += count

    def _skip(self) -> None:
        """Go on behind what a reader knows: it may not hear a number twice.

        An adopted turn can end before it has come that far, when it is cancelled.
        """
        self._forget(self.last)
        self.last = self._forgotten = self._known

    def _weigh(self) -> None:
        over = len(self._records) >= ITEMS_LIMIT or self._waiting_bytes >= BYTES_LIMIT
        behind = self._adopted and (not self._stored or self.last < self._known)
        self.full = over and not self._unbounded and not behind
        if not self.full and self._room is not None:
            self._room.set_result(None)
            self._room = None


class Cursor:
    """One reader's place in a book.

    A reader that is slow gets longer deltas, not more of them. One that stands before what
    another reader acknowledged goes on after it: those items are stored, and can be read there.
    """

    __slots__ = ("_book", "_discards", "_mark", "_sent", "_sequence", "_steps", "done")

    def __init__(self, book: Book, after: int, mark: Callable[[], None]) -> None:
        self.done = False
        """Whether the outcome was taken, so that nothing follows."""
        self._book = book
        self._sequence = after
        self._discards = book.discards
        self._steps = 0
        self._mark = mark
        self._sent: dict[str, int] = {}

    def take(self, budget: int, news: News) -> tuple[int, bool]:
        """Add what is new since the last call to a message.

        Args:
            budget: Bytes to stay near; at least one update is added when there is one.
            news: Where it goes.

        Returns:
            About how many bytes were added, 0 only for none; and whether more is waiting.
        """
        left, book = budget, self._book
        if self._steps != book.steps:
            left -= self._take_progress(news)
        if self._sequence > book.last:
            # An adopted book that has not come to where this reader is.
            return budget - left, False
        if self._sequence < book.last:
            left = self._take_items(news, left)
            if self._sequence < book.last:
                return budget - left, True
        if self._discards != book.discards:
            left -= self._take_discarded(news)
        left, more = self._take_deltas(news, left)
        self.done = book.ended and not more
        return budget - left, more

    def close(self) -> None:
        """Stop following. A second call changes nothing."""
        self._book.leave(self._mark)

    def _take_progress(self, news: News) -> int:
        self._steps = self._book.steps
        if self._book.ended:
            return 0
        news.updates.append(self._book.standing())
        return _BESIDES_BYTES

    def _take_deltas(self, news: News, left: int) -> tuple[int, bool]:
        for block_id, block in self._book.blocks.items():
            sent = self._sent.get(block_id, 0)
            length = block.length
            if sent == length:
                continue
            if left <= 0:
                return left, True
            # Set in place: a message that is copied into another takes twice as long.
            delta = news.updates.add().delta
            delta.block_id = block_id
            delta.text = block.after(sent)
            if block.thought:
                delta.thought = True
            if not sent:
                delta.snapshot = True
            left -= length - sent + _BESIDES_BYTES
            self._sent[block_id] = length
        return left, False

    def _take_items(self, news: News, left: int) -> int:
        book = self._book
        while self._sequence < book.last and left > 0:
            self._sequence += 1
            record = book.read(self._sequence)
            if record is None:
                # Whether it closed a piece that this reader shows is not known any more.
                self._discards = -1
                continue
            news.updates.append(record.update)
            self._sent.pop(record.block_id, None)
            left -= record.size
        return left

    def _take_discarded(self, news: News) -> int:
        self._discards = self._book.discards
        gone = [known for known in self._sent if known not in self._book.blocks]
        for block_id in gone:
            del self._sent[block_id]
            news.updates.add().message_discarded.block_id = block_id
        return len(gone) * _BESIDES_BYTES
