"""Follows an agent's events, or a user's agents, across reconnects.

Keeps the one rule of the history, 1, 2, 3 … without gap or repeat, and knows
no turn.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from moorline.blocks import OpenBlocks
from moorline.calls import Json, StreamCall
from moorline.connection import Connection
from moorline.events import (
    AsyncEvent,
    BackgroundWork,
    Checkpoint,
    Message,
    Thought,
    TurnAttempt,
    TurnOutcome,
    UserMessage,
)
from moorline.exceptions import ProtocolError
from moorline.permissions import Answer
from moorline.updates import decode_delta, decode_event, make_discarded

log = logging.getLogger(__name__)

T = TypeVar("T")

# A hole in a history is a bug of the server. Asking again mends one that was
# made on the way; one that is really there must not become an endless loop.
REPAIRS = 3


class LiveStream(AsyncIterator[T], Generic[T]):
    """Things as they happen; waits for the next one for ever.

    Leave it with `aclose()` or by using it as a context manager. Left without,
    it costs the client's memory a few MiB at most until the client is closed.
    """

    def __init__(self, call: StreamCall) -> None:
        self._call = call
        self._ready: deque[T] = deque()
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop; doing it again changes nothing."""
        self._closed = True
        self._call.close()

    async def __anext__(self) -> T:
        while not self._ready:
            if self._closed:
                raise StopAsyncIteration
            reply = await self._call.next()
            if reply is None:
                self._begun()
            else:
                self._ready.extend(self._read(reply))
        return self._ready.popleft()

    def _begun(self) -> None:
        """Note that the stream begins anew from where it is."""

    @abstractmethod
    def _read(self, reply: Json) -> Iterator[T]:
        """Return the things that one reply brings."""


class EventStream(LiveStream[AsyncEvent]):
    """An agent's events from a position on, then live.

    Attributes:
        sequence: Number of the last event taken from it, the position to go on
            from another time.
        log_id: Which history `sequence` counts in; empty until a `Checkpoint` has
            told. Keep it with `sequence`.
    """

    def __init__(
        self,
        *,
        connection: Connection,
        agent: str,
        after: int,
        log_id: str,
        deltas: bool,
        answer: Answer,
    ) -> None:
        super().__init__(connection.stream("watchEvents", self._request))
        self.sequence = after
        self.log_id = log_id
        self._agent = agent
        self._deltas = deltas
        self._answer = answer
        self._blocks = OpenBlocks()
        self._repairs = 0

    def _request(self) -> Json:
        return {
            "parent": self._agent,
            "afterSequence": self.sequence,
            "includeDeltas": self._deltas,
            "logId": self.log_id,
        }

    def _begun(self) -> None:
        self._blocks.doubt()

    def _read(self, reply: Json) -> Iterator[AsyncEvent]:
        for update in reply.get("updates", ()):
            if "event" in update:
                sequence = update["event"].get("sequence", 0)
                if sequence <= self.sequence:
                    continue
                if sequence != self.sequence + 1:
                    self._repair(sequence)
                    return
                self._repairs = 0
                yield from self._read_event(update["event"])
            else:
                yield from self._read_news(update)

    def _repair(self, sequence: int) -> None:
        self._repairs += 1
        facts = {"agent": self._agent, "after": self.sequence, "got": sequence}
        if self._repairs > REPAIRS:
            message = f"{self._agent} has no event {self.sequence + 1}; the next is {sequence}."
            raise ProtocolError(message)
        log.warning("event missing, watching again", extra=facts)
        self._call.again()

    def _read_event(self, encoded: Mapping[str, Any]) -> Iterator[AsyncEvent]:
        event = decode_event(encoded, self._answer)
        if self._deltas:
            begins = isinstance(event, UserMessage | BackgroundWork)
            self._blocks.heard(event.turn_id, begins=begins)
            if isinstance(event, Message | Thought):
                thought = isinstance(event, Thought)
                rest = self._blocks.complete(event.block_id, event.text, thought=thought)
                if rest is not None:
                    yield rest
            elif isinstance(event, TurnAttempt | TurnOutcome):
                ended = isinstance(event, TurnOutcome)
                yield from self._blocks.over(event.turn_id, ended=ended)
        self.sequence = event.sequence
        yield event

    def _read_news(self, update: Mapping[str, Any]) -> Iterator[AsyncEvent]:
        if "delta" in update:
            delta = self._blocks.extend(decode_delta(update))
            if delta is not None:
                yield delta
        elif "messageDiscarded" in update:
            block_id = update["messageDiscarded"].get("blockId", "")
            if self._blocks.discard(block_id):
                yield make_discarded(block_id)
        elif "checkpoint" in update:
            yield from self._blocks.settle()
            checkpoint = update["checkpoint"]
            self.log_id = checkpoint.get("logId", self.log_id)
            yield Checkpoint(sequence=checkpoint.get("sequence", 0), log_id=self.log_id, raw=update)
