"""The serving side of a feed: many subscriptions' updates on one stream.

What is marked while a response is being written goes out in the next one, and
a busy feed waits a little between two; there is no task, queue or lock for an
update. Does not know what the updates are or whose.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import timedelta
from typing import Generic, Protocol, TypeVar

from google.protobuf.message import Message

from moorline.errors.v1 import errors_pb2
from services.chassis.failures import Failure, field_invalid

U = TypeVar("U", bound=Message)
U_co = TypeVar("U_co", covariant=True)
V = TypeVar("V")

RESPONSE_BYTES = 128 * 1024
"""About how much one response carries: enough that its own cost does not count."""

TAKE_BYTES = 32 * 1024
"""About how much one subscription may put into a response that others wait for."""

_PAUSE_EACH = 0.0001
_LEAST_PAUSE = 0.001
_MOST_PAUSE = 0.003
"""Seconds to gather after a response, for each subscription it carried. A message costs far more
than what is in it: with 500 busy subscriptions this takes a fifth off the CPU of all services on
the way and adds 2 ms a hop. Fewer than ten wait for nothing."""

HEARTBEAT_SECONDS = 3.0
"""After so long without a response an empty one says that the feed lives."""

_ID_LENGTH = 64
_RETRY_DELAY = timedelta(milliseconds=100)


class Source(Protocol[U_co]):
    """One subscription's data: a cursor into something that keeps the updates."""

    @property
    def done(self) -> bool:
        """True when nothing will follow; the feed then removes the subscription."""
        ...

    def take(self, budget: int) -> tuple[Sequence[U_co], bool]:
        """Return the updates since the last take, and whether more is waiting.

        Called from the feed's writer whenever the subscription was marked; must
        not block. It may find nothing.

        Args:
            budget: About how many bytes to return at most. At least one update
                is returned, however large, when one is waiting.
        """
        ...

    def close(self) -> None:
        """Let go of what the cursor holds. Called once, when it leaves the feed."""
        ...


class Feed(Generic[U]):
    """One open stream and its subscriptions. All methods belong to the event loop.

    Args:
        heartbeat_seconds: After so long without a response an empty one is sent.
    """

    def __init__(self, *, heartbeat_seconds: float = HEARTBEAT_SECONDS) -> None:
        self._heartbeat = heartbeat_seconds
        self._sources: dict[int, Source[U]] = {}
        # In the order of marking, which is the order of taking.
        self._dirty: dict[int, None] = {}
        self._waiter: asyncio.Future[None] | None = None
        self._end: Failure | None = None
        # One timer for the feed, which looks at the time of the last response.
        self._timer: asyncio.TimerHandle | None = None
        self._sent = 0.0
        self._silent = False
        self.closed = False

    def add(self, subscription: int, source: Source[U]) -> None:
        """Add a subscription, and take what its source has already.

        Args:
            subscription: The caller's number for it, at least 1.
            source: Where its updates are; the feed closes it.

        Raises:
            Failure: FIELD_INVALID for a number that is used or too small,
                FEED_UNKNOWN when the stream has ended.
        """
        if self.closed:
            source.close()
            raise _unknown()
        if subscription < 1 or subscription in self._sources:
            source.close()
            raise field_invalid("subscription", "be a new number, at least 1")
        self._sources[subscription] = source
        self.mark(subscription)

    def remove(self, subscription: int) -> None:
        """Remove a subscription and close its source. Repeating it changes nothing."""
        self._dirty.pop(subscription, None)
        source = self._sources.pop(subscription, None)
        if source is not None:
            source.close()

    def mark(self, subscription: int) -> None:
        """Say that there is news for a subscription; wakes the writer."""
        if subscription in self._sources:
            self._dirty[subscription] = None
            self._wake()

    def end(self, failure: Failure) -> None:
        """End the stream with a failure, after one more response of what is marked."""
        self._end = failure
        self._wake()

    def collect(self) -> list[tuple[int, Sequence[U]]]:
        """Take what fits into one response from the marked subscriptions, in turn."""
        batch: list[tuple[int, Sequence[U]]] = []
        left = RESPONSE_BYTES
        # Each at most once: one that has more goes to the end for the next response.
        for _ in range(len(self._dirty)):
            if left <= 0 or not self._dirty:
                break
            subscription = next(iter(self._dirty))
            del self._dirty[subscription]
            source = self._sources[subscription]
            updates, more = source.take(min(left, TAKE_BYTES))
            if updates:
                batch.append((subscription, updates))
                for update in updates:
                    left -= update.ByteSize()
            if subscription not in self._sources:
                # Taking may tell somebody who then unsubscribes.
                continue
            if more:
                self._dirty[subscription] = None
            elif source.done:
                self.remove(subscription)
        return batch

    async def responses(
        self, wrap: Callable[[list[tuple[int, Sequence[U]]]], V]
    ) -> AsyncIterator[V]:
        """Yield responses for ever, the first one empty, and empty ones in silence.

        Raises:
            Failure: What `end` was given.
        """
        loop = asyncio.get_running_loop()
        self._sent = loop.time()
        yield wrap([])
        self._beat()
        while True:
            if not (self._dirty or self._silent) and self._end is None:
                self._waiter = loop.create_future()
                # No time limit: the timer wakes it.
                await self._waiter
            # Read before the take, so that what is marked by now still goes out.
            end = self._end
            batch = self.collect()
            if batch or self._silent:
                self._silent = False
                self._sent = loop.time()
                yield wrap(batch)
                pause = min(_MOST_PAUSE, len(batch) * _PAUSE_EACH)
                if pause >= _LEAST_PAUSE and end is None:
                    await asyncio.sleep(pause)
            else:
                # A source may say that it has more and give nothing yet; what it
                # waits for must get its turn.
                await asyncio.sleep(0)
            if end is not None:
                raise end

    def close(self) -> None:
        """Close every source; the feed takes no more."""
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
        for subscription in list(self._sources):
            self.remove(subscription)

    def _beat(self) -> None:
        if self.closed:
            return
        loop = asyncio.get_running_loop()
        left = self._sent + self._heartbeat - loop.time()
        if left <= 0:
            left = self._heartbeat
            self._silent = True
            self._wake()
        self._timer = loop.call_later(left, self._beat)

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


class Feeds(Generic[U, V]):
    """All open feeds of a server.

    Args:
        wrap: Builds the response that carries these updates, by subscription. Of
            none in the first response, and after each `heartbeat` of silence.
        heartbeat: How long a feed is silent at most.
    """

    def __init__(
        self,
        *,
        wrap: Callable[[list[tuple[int, Sequence[U]]]], V],
        heartbeat: timedelta = timedelta(seconds=HEARTBEAT_SECONDS),
    ) -> None:
        self._wrap = wrap
        self._heartbeat_seconds = heartbeat.total_seconds()
        self._feeds: dict[str, tuple[str, Feed[U]]] = {}
        self._draining = False
        self._empty = asyncio.Event()
        self._empty.set()

    def __len__(self) -> int:
        return len(self._feeds)

    async def open(self, feed_id: str, owner: str) -> AsyncIterator[V]:
        """Serve `OpenFeed`: yield responses until the caller leaves or `drain`.

        The owner may open the same feed again, which ends the stream before.

        Args:
            feed_id: The caller's id for the stream, 1 to 64 characters.
            owner: Whom the call is made for, `Identity.user`.

        Raises:
            Failure: DRAINING; FIELD_INVALID for an id that is malformed or in use
                by another owner.
        """
        if self._draining:
            raise _draining()
        held = self._feeds.get(feed_id)
        if not 1 <= len(feed_id) <= _ID_LENGTH or (held is not None and held[0] != owner):
            raise field_invalid("feed_id", "be a new UUID")
        if held is not None:
            held[1].end(
                Failure(errors_pb2.ERROR_REASON_CALL_CANCELLED, "The feed was opened again.")
            )
            held[1].close()
        feed: Feed[U] = Feed(heartbeat_seconds=self._heartbeat_seconds)
        self._feeds[feed_id] = (owner, feed)
        self._empty.clear()
        try:
            async for response in feed.responses(self._wrap):
                yield response
        finally:
            feed.close()
            # Not when the owner has opened it again meanwhile.
            if self._feeds.get(feed_id) == (owner, feed):
                del self._feeds[feed_id]
            if not self._feeds:
                self._empty.set()

    def get(self, feed_id: str, owner: str | None = None) -> Feed[U]:
        """Return an open feed.

        Args:
            feed_id: Its id.
            owner: Who must have opened it; None when the caller differs from the
                owner by design, as a user does from the gateway.

        Raises:
            Failure: FEED_UNKNOWN.
        """
        held = self._feeds.get(feed_id)
        if held is None or (owner is not None and held[0] != owner):
            raise _unknown()
        return held[1]

    def find(self, feed_id: str) -> Feed[U] | None:
        """Return a feed if it is open."""
        held = self._feeds.get(feed_id)
        return held[1] if held is not None else None

    async def drain(self) -> None:
        """Open no more feeds, end all with DRAINING, and wait until they are gone.

        The caller limits the wait; `server.serve` does.
        """
        self._draining = True
        for _, feed in self._feeds.values():
            feed.end(_draining())
        await self._empty.wait()


def _unknown() -> Failure:
    return Failure(
        errors_pb2.ERROR_REASON_FEED_UNKNOWN, "The feed is not open here. Open it again."
    )


def _draining() -> Failure:
    return Failure(
        errors_pb2.ERROR_REASON_DRAINING,
        "This server is shutting down. Connect again.",
        retry_delay=_RETRY_DELAY,
    )
