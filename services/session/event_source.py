"""Follows one agent: what is stored, then what is being written, then what happens.

A position in the history, not a queue: what is behind it is taken from the
timeline, or from the store when it is older. Does not know who takes it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from moorline.errors.v1 import errors_pb2
from services.chassis.failures import Failure, not_found
from services.chassis.tasks import Tasks
from services.session.blocks import Block
from services.session.encoding import LoggedEvent
from services.session.forms import EventForm
from services.session.history import History
from services.session.ownership.ownership import Lease
from services.session.timeline import Timeline

N = TypeVar("N")

_AHEAD_BYTES = 256 * 1024
"""Stored events read ahead of who takes them."""


class EventSource(Generic[N]):
    """One subscription to one agent; a `chassis.feed.Source`.

    Gap-free and repeat-free because it is only a cursor: an event is yielded
    when its number is the cursor's successor, whether the store or the timeline
    has it.

    Args:
        timeline: The live end.
        history: The stored rest.
        lease: The lease on the agent's user; nothing is taken while it may be over.
        log_id: Which history this is.
        tasks: Owns the task that reads stored events; there is none otherwise.
        form: Makes the updates.
        after_sequence: Number of the last event that is known already.
        known_log_id: Which history that number counts in; empty when it is not known.
        include_deltas: True for text still being written.
        mark: Called when there is something to take.

    Raises:
        Failure: SEQUENCE_UNKNOWN when the history is another one, or does not
            reach that far.
    """

    __slots__ = (
        "_checkpointed",
        "_closed",
        "_cursor",
        "_discards",
        "_form",
        "_history",
        "_include_deltas",
        "_lease",
        "_loader",
        "_log_id",
        "_replay",
        "_replay_bytes",
        "_room",
        "_seen",
        "_tasks",
        "_timeline",
        "done",
        "failure",
        "mark",
    )

    def __init__(
        self,
        *,
        timeline: Timeline,
        history: History,
        lease: Lease,
        log_id: str,
        tasks: Tasks,
        form: EventForm[N],
        after_sequence: int,
        known_log_id: str,
        include_deltas: bool,
        mark: Callable[[], None],
    ) -> None:
        other = bool(known_log_id) and known_log_id != log_id
        if other or after_sequence > timeline.head:
            what = "is another one now" if other else "does not reach that far"
            raise Failure(
                errors_pb2.ERROR_REASON_SEQUENCE_UNKNOWN,
                f"The history {what}. Forget what is shown and watch from 0.",
                headSequence=str(timeline.head),
            )
        self._timeline = timeline
        self._history = history
        self._lease = lease
        self._log_id = log_id
        self._tasks = tasks
        self._form = form
        self._include_deltas = include_deltas
        self._cursor = after_sequence
        self._seen: dict[Block, int] = {}
        self._discards: list[str] = []
        self._replay: deque[LoggedEvent] | None = None
        self._replay_bytes = 0
        self._room: asyncio.Event | None = None
        self._loader: asyncio.Task[None] | None = None
        self._checkpointed = False
        self._closed = False
        self.mark = mark
        self.failure: Failure | None = None
        """Why nothing will follow; None while something may."""
        self.done = False
        """True when everything was taken and nothing will follow."""
        timeline.follow(self)

    def take(self, budget: int, news: N) -> tuple[int, bool]:
        """Add what lies behind the cursor to a message.

        Args:
            budget: About how many bytes to add at most; at least one update is
                added when there is one.
            news: Where it goes.

        Returns:
            About how many bytes were added, 0 only for none; and whether there is
            more at once.
        """
        if self.failure is not None:
            self.done = True
            return self._form.end(news, self.failure), False
        if not self._lease.shows:
            self._lease.when_known(self.mark)
            return 0, False
        left = budget
        for block_id in self._discards:
            left -= self._form.discarded(news, block_id)
        self._discards.clear()
        left, more = self._take_behind(news, left)
        return budget - left, more

    def discarded(self, block: Block) -> None:
        """Hear that a block was taken back; see `timeline.Follower`."""
        if self._seen.pop(block, None) is not None:
            self._discards.append(block.block_id)

    def end(self, failure: Failure) -> None:
        """End with a failure, before anything else that was not taken yet."""
        if self.failure is None:
            self.failure = failure
            self._timeline.leave(self)
            self.mark()

    def close(self) -> None:
        """Stop following. Repeating it changes nothing."""
        self._closed = True
        self._timeline.leave(self)
        if self._loader is not None:
            self._loader.cancel()
            self._loader = None

    def _take_behind(self, news: N, left: int) -> tuple[int, bool]:
        """Take what lies behind the cursor; return what is left, and whether there is more."""
        timeline = self._timeline
        # Not for text alone, which is by far the most frequent.
        if self._cursor != timeline.head or self._replay or self._loader is not None:
            left = self._take_replayed(news, left)
            if self._replay:
                return left, True
            if self._loader is None and self._cursor + 1 < timeline.first:
                self._loader = self._tasks.spawn(self._load(), name="event-replay")
            if self._loader is not None:
                return left, False
            left = self._take_events(news, left)
            if self._cursor != timeline.head:
                # Ahead: read from the store between a commit and its publication, which
                # marks again. Text until then may be of a piece that was read as an event.
                return left, self._cursor < timeline.head
        if self._include_deltas:
            left, more = self._take_deltas(news, left)
            if more:
                return left, True
        # Or text that a client shows would be taken for taken back.
        if not self._checkpointed and (timeline.whole or not self._include_deltas):
            self._checkpointed = True
            left -= self._form.checkpoint(news, self._cursor, self._log_id)
        return left, False

    def _take_replayed(self, news: N, left: int) -> int:
        replay = self._replay
        while replay and left > 0:
            event = replay.popleft()
            left -= self._form.event(news, event)
            self._replay_bytes -= len(event.json)
        if self._room is not None and self._replay_bytes < _AHEAD_BYTES // 2:
            self._room.set()
        return left

    def _take_events(self, news: N, left: int) -> int:
        """Take from the timeline; return what is left of the budget."""
        for event in self._timeline.after(self._cursor):
            if left <= 0:
                break
            left -= self._form.event(news, event)
            self._cursor = event.sequence
        return left

    def _take_deltas(self, news: N, left: int) -> tuple[int, bool]:
        """Take text being written; return what is left, and whether there is more of it."""
        blocks, seen = self._timeline.blocks, self._seen
        if len(seen) > len(blocks):
            # Blocks that an event has ended.
            for block in [block for block in seen if blocks.get(block.block_id) is not block]:
                del seen[block]
        for block in blocks.values():
            known = seen.get(block)
            if known == block.length:
                continue
            if left <= 0:
                return left, True
            left -= self._form.delta(news, block, known)
            seen[block] = block.length
        return left, False

    async def _load(self) -> None:
        """Read stored events until the timeline has the next one."""
        self._room = asyncio.Event()
        self._replay = deque()
        try:
            while self._cursor + 1 < self._timeline.first:
                events = await self._history.events(self._cursor)
                if not events:
                    # Only the log of a deleted agent can end before its timeline.
                    raise not_found()
                for event in events:
                    self._replay.append(event)
                    self._replay_bytes += len(event.json)
                self._cursor = events[-1].sequence
                self.mark()
                while self._replay_bytes >= _AHEAD_BYTES:
                    # For as long as the reader does not take; closing it ends the wait.
                    self._room.clear()
                    await self._room.wait()
        except Failure as failure:
            self.end(failure)
        finally:
            self._room = None
            if not self._closed:
                self._loader = None
                self.mark()
