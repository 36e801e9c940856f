"""The serving side of a feed: many subscriptions' updates on one stream.

What is marked while a response is being written goes out in the next one, and
a busy feed waits a little between two; there is no task, queue or lock for an
update. Does not know what the updates are or whose.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any, Generic, Protocol, TypeVar

from moorline.errors.v1 import errors_pb2
from services.chassis.failures import Failure, field_invalid

N = TypeVar("N")
N_contra = TypeVar("N_contra", contravariant=True)
R = TypeVar("R")

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


class Source(Protocol[N_contra]):
    """One subscription's data: a cursor into something that keeps the updates.

    It writes them into a part of the response itself: to build messages that are copied
    there took twice as long.
    """

    @property
    def done(self) -> bool:
        """True when nothing will follow; the feed then removes the subscription."""
        ...

    def take(self, budget: int, news: N_contra) -> tuple[int, bool]:
        """Add the updates since the last take to a message.

        Called from the feed's writer whenever the subscription was marked; must
        not block. It may find nothing.

        Args:
            budget: About how many bytes to add at most, at least 1. At least one
                update is added, however large, when one is waiting.
            news: Where they go.

        Returns:
            About how many bytes were added, 0 only for none; and whether more is waiting.
        """
        ...

    def close(self) -> None:
        """Let go of what the cursor holds. Called once, when it leaves the feed."""
        ...


class Feed(Generic[N]):
    """One open stream and its subscriptions. All methods belong to the event loop.

    Args:
        heartbeat_seconds: After so long without a response an empty one is sent.
    """

    def __init__(self, *, heartbeat_seconds: float = HEARTBEAT_SECONDS) -> None:
        self._heartbeat = heartbeat_seconds
        self._sources: dict[int, Source[N]] = {}
        # In the order of marking, which is the order of taking.
        self._dirty: dict[int, None] = {}
        self._waiter: asyncio.Future[None] | None = None
        self._end: Failure | None = None
        # One timer for the feed, which looks at the time of the last response.
        self._timer: asyncio.TimerHandle | None = None
        self._sent = 0.0
        self._silent = False
        self.closed = False

    def add(self, subscription: int, source: Source[N]) -> None:
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

    def collect(self, response: Any) -> int:
        """Put what fits into a response from the marked subscriptions, in turn.

        Args:
            response: Empty; its `subscriptions` are messages with a `subscription`.

        Returns:
            How many subscriptions it carries news of.
        """
        carried = response.subscriptions
        left = RESPONSE_BYTES
        # Each at most once: one that has more goes to the end for the next response.
        for _ in range(len(self._dirty)):
            if left <= 0 or not self._dirty:
                break
            subscription = next(iter(self._dirty))
            del self._dirty[subscription]
            source = self._sources[subscription]
            news = carried.add()
            news.subscription = subscription
            size, more = source.take(min(left, TAKE_BYTES), news)
            if size:
                left -= size
            else:
                del carried[-1]
            if subscription not in self._sources:
                # Taking may tell somebody who then unsubscribes.
                continue
            if more:
                self._dirty[subscription] = None
            elif source.done:
                self.remove(subscription)
        return len(carried)

    async def responses(
        self, *, response: Callable[[], R], empty: Callable[[], R]
    ) -> AsyncIterator[R]:
        """Yield responses for ever, the first one empty, and empty ones in silence.

        Args:
            response: Makes one for `collect`.
            empty: Makes one that carries nothing.

        Raises:
            Failure: What `end` was given.
        """
        loop = asyncio.get_running_loop()
        self._sent = loop.time()
        yield empty()
        self._beat()
        while True:
            if not (self._dirty or self._silent) and self._end is None:
                self._waiter = loop.create_future()
                # No time limit: the timer wakes it.
                await self._waiter
            # Read before the take, so that what is marked by now still goes out.
            end = self._end
            filled = response()
            carried = self.collect(filled)
            if carried or self._silent:
                self._silent = False
                self._sent = loop.time()
                yield filled if carried else empty()
                pause = min(_MOST_PAUSE, carried * _PAUSE_EACH)
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


class Feeds(Generic[N, R]):
    """All open feeds of a server.

    Args:
        response: Makes a response to be filled; see `Feed.collect`.
        empty: Makes one that carries nothing: the first one, and one after each
            `heartbeat` of silence.
        heartbeat: How long a feed is silent at most.
    """

    def __init__(
        self,
        *,
        response: Callable[[], R],
        empty: Callable[[], R],
        heartbeat: timedelta = timedelta(seconds=HEARTBEAT_SECONDS),
    ) -> None:
        self._response = response
        self._make_empty = empty
        self._heartbeat_seconds = heartbeat.total_seconds()
        self._feeds: dict[str, tuple[str, Feed[N]]] = {}
        self._draining = False
        self._empty = asyncio.Event()
        self._empty.set()

    def __len__(self) -> int:
        return len(self._feeds)

    async def open(self, feed_id: str, owner: str) -> AsyncIterator[R]:
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
        feed: Feed[N] = Feed(heartbeat_seconds=self._heartbeat_seconds)
        self._feeds[feed_id] = (owner, feed)
        self._empty.clear()
        try:
            responses = feed.responses(response=self._response, empty=self._make_empty)
            async for response in responses:
                yield response
        finally:
            feed.close()
            # Not when the owner has opened it again meanwhile.
            if self._feeds.get(feed_id) == (owner, feed):
                del self._feeds[feed_id]
            if not self._feeds:
                self._empty.set()

    def get(self, feed_id: str, owner: str | None = None) -> Feed[N]:
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

    def find(self, feed_id: str) -> Feed[N] | None:
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
