"""The consuming side of a feed: keeps one open, and its subscriptions with it.

Does not know what the updates are. Callbacks are plain functions, called from
the reader: no task, queue or lock for an update.
"""

from __future__ import annotations

import asyncio
import logging
import random
import uuid
from collections.abc import Callable, Iterable, Sequence
from contextlib import aclosing
from datetime import timedelta
from typing import Any, Generic, TypeVar

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.message import Message

from moorline.errors.v1 import errors_pb2
from services.chassis.client import Peer
from services.chassis.failures import Failure
from services.chassis.identity import Identity
from services.chassis.tasks import Tasks

U = TypeVar("U")

log = logging.getLogger(__name__)

_CALL_TIMEOUT = timedelta(seconds=10)
_CONCURRENCY = 64
_FIRST_DELAY = 0.05
_LAST_DELAY = 1.0
# A stream that lasted this long was a good one; its end is no reason to wait.
_GOOD_SECONDS = 1.0

# What passes by itself: the subscription is tried again until it does.
_PASSING = frozenset(
    {
        errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE,
        errors_pb2.ERROR_REASON_DRAINING,
        errors_pb2.ERROR_REASON_FEED_UNKNOWN,
        errors_pb2.ERROR_REASON_CALL_TIMEOUT,
        errors_pb2.ERROR_REASON_STORE_UNAVAILABLE,
    }
)


class Subscription(Generic[U]):
    """One thing followed over a link; made by `FeedLink.subscribe`."""

    __slots__ = ("identity", "number", "on_end", "on_reset", "on_updates", "open", "request")

    def __init__(
        self,
        *,
        identity: Identity,
        request: Callable[[str, int], Message],
        on_updates: Callable[[Sequence[U]], None],
        on_end: Callable[[Failure], None],
        on_reset: Callable[[], None],
    ) -> None:
        self.identity = identity
        self.request = request
        self.on_updates = on_updates
        self.on_end = on_end
        self.on_reset = on_reset
        self.number = 0
        self.open = True


class FeedLink(Generic[U]):
    """Keeps one feed open to a peer until `close`, and subscribes again after a break.

    Args:
        peer: The open peer.
        open_method: Full name of the method that opens a feed.
        open_request: Builds its request from the feed's id.
        open_response: Class of its responses.
        subscribe_method: Full name of the method.
        unsubscribe_method: Full name of the method; its request has the fields
            `feed_id` and `subscription`.
        split: Takes a response apart: number, updates, and the error that ends
            the subscription or None.
        tasks: Owns the reader.
        identity: Whom the feed is opened for.
        patience: How long `subscribe` waits for the feed to be open.
    """

    def __init__(
        self,
        *,
        peer: Peer,
        open_method: str,
        open_request: Callable[[str], Message],
        open_response: type[Message],
        subscribe_method: str,
        unsubscribe_method: str,
        split: Callable[[Any], Iterable[tuple[int, Sequence[U], errors_pb2.Error | None]]],
        tasks: Tasks,
        identity: Identity,
        patience: timedelta = timedelta(seconds=2),
    ) -> None:
        self._peer = peer
        self._open_method = open_method
        self._open_request = open_request
        self._open_response = open_response
        self._subscribe_method = subscribe_method
        self._subscribed = _messages(subscribe_method)[1]
        self._unsubscribe_method = unsubscribe_method
        self._unsubscribe_request, self._unsubscribed = _messages(unsubscribe_method)
        self._split = split
        self._tasks = tasks
        self._identity = identity
        self._patience = patience.total_seconds()
        # The mutable state: what must be followed, what each number on the open
        # feed stands for, and the open feed's id, empty while there is none.
        self._kept: dict[Subscription[U], None] = {}
        self._routes: dict[int, Subscription[U]] = {}
        self._feed_id = ""
        self._number = 0
        self._delivering: Subscription[U] | None = None
        self._connected = asyncio.Event()
        self._disconnected_since: float | None = asyncio.get_running_loop().time()
        self._keeper = tasks.spawn(self._keep_open(), name="feed-link")

    @property
    def connected(self) -> bool:
        """True while the feed is open."""
        return bool(self._feed_id)

    @property
    def disconnected_since(self) -> float | None:
        """Loop time at which the feed broke or was first tried; None while open."""
        return self._disconnected_since

    def __len__(self) -> int:
        return len(self._kept)

    async def subscribe(
        self,
        *,
        identity: Identity,
        request: Callable[[str, int], Message],
        on_updates: Callable[[Sequence[U]], None],
        on_end: Callable[[Failure], None],
        on_reset: Callable[[], None] = lambda: None,
    ) -> Subscription[U]:
        """Follow something from now on, whatever breaks.

        Updates may arrive before this returns. Cancelling it takes it back.

        Args:
            identity: Whom the subscription is for.
            request: Builds the request from the feed's id and a number. Called
                again after each break, so it reads the position of that moment.
            on_updates: Gets updates in order.
            on_end: Called once when the subscription is over by itself, in place
                of anything after; not after `unsubscribe`.
            on_reset: Called before each new request: what follows starts at the
                position that request names.

        Raises:
            Failure: What the peer answered; SERVICE_UNAVAILABLE when the feed is
                not open within the patience.
        """
        subscription = Subscription(
            identity=identity,
            request=request,
            on_updates=on_updates,
            on_end=on_end,
            on_reset=on_reset,
        )
        feed_id = await self._wait_connected()
        kept = False
        try:
            await self._call_subscribe(subscription, feed_id)
            kept = subscription.open
        except Failure as failure:
            if failure.reason != errors_pb2.ERROR_REASON_FEED_UNKNOWN:
                raise
            # The feed broke under the call, which is nothing the caller can repair.
            raise self._unavailable() from failure
        finally:
            if not kept:
                self._forget(subscription, feed_id)
        if kept:
            self._kept[subscription] = None
            if self._feed_id != feed_id:
                # It broke meanwhile; a new one may have been opened without this.
                self._again([subscription])
        return subscription

    async def unsubscribe(self, subscription: Subscription[U]) -> None:
        """Stop following; nothing is delivered from now on. Never raises.

        The peer is told in the background, when it can be reached.
        """
        if subscription.open:
            self._kept.pop(subscription, None)
            self._forget(subscription, self._feed_id)

    def close(self) -> None:
        """Close the feed; subscriptions end without another call."""
        self._keeper.cancel()
        for subscription in self._kept:
            subscription.open = False
        self._kept.clear()
        self._routes.clear()

    async def _wait_connected(self) -> str:
        try:
            async with asyncio.timeout(self._patience):
                while not self._feed_id:
                    await self._connected.wait()
        except TimeoutError:
            raise self._unavailable() from None
        return self._feed_id

    def _unavailable(self) -> Failure:
        return Failure(
            errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE,
            f"The {self._peer.service} service cannot be reached. Try again.",
            retry_delay=timedelta(seconds=_LAST_DELAY),
            service=self._peer.service,
        )

    async def _keep_open(self) -> None:
        loop = asyncio.get_running_loop()
        delay = _FIRST_DELAY
        while True:
            start = loop.time()
            # A task of its own, so that a bug in a callback ends a stream and no more.
            reader = self._tasks.spawn(self._read(str(uuid.uuid4())), name="feed-link-reader")
            try:
                # No time limit: a feed stays open for as long as it can.
                await asyncio.wait([reader])
            finally:
                reader.cancel()
                self._broken()
            delay = _FIRST_DELAY if loop.time() - start > _GOOD_SECONDS else delay
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311
            delay = min(_LAST_DELAY, delay * 2)

    async def _read(self, feed_id: str) -> None:
        responses = self._peer.stream(
            self._open_method,
            self._open_request(feed_id),
            self._open_response,
            identity=self._identity,
        )
        reason = "ended"
        try:
            async with aclosing(responses):
                async with asyncio.timeout(2 * self._patience):
                    await anext(responses, None)
                self._opened(feed_id)
                async for response in responses:
                    self._deliver(response)
        except TimeoutError:
            reason = "no first response"
        except Failure as failure:
            reason = failure.reason_name
        if self._disconnected_since is None:
            log.warning("feed broken", extra={"peer": self._peer.service, "reason": reason})

    def _deliver(self, response: Message) -> None:
        routes = self._routes
        for number, updates, error in self._split(response):
            subscription = routes.get(number)
            if subscription is None:
                continue
            self._delivering = subscription
            if updates:
                subscription.on_updates(updates)
            if error is not None:
                self._over(subscription)
                subscription.on_end(Failure.from_error(error))
        self._delivering = None

    def _opened(self, feed_id: str) -> None:
        log.info("feed open", extra={"peer": self._peer.service, "subscriptions": len(self._kept)})
        self._feed_id = feed_id
        self._disconnected_since = None
        self._connected.set()
        self._again(list(self._kept))

    def _broken(self) -> None:
        loop = asyncio.get_running_loop()
        self._feed_id = ""
        self._connected.clear()
        self._routes.clear()
        if self._disconnected_since is None:
            self._disconnected_since = loop.time()
        culprit, self._delivering = self._delivering, None
        if culprit is not None:
            # Its consumer raised. Following on would break the feed for all again.
            self._over(culprit)
            failure = Failure(errors_pb2.ERROR_REASON_INTERNAL, "An update was not understood.")
            loop.call_soon(culprit.on_end, failure)

    def _over(self, subscription: Subscription[U]) -> None:
        subscription.open = False
        self._kept.pop(subscription, None)
        self._routes.pop(subscription.number, None)

    def _forget(self, subscription: Subscription[U], feed_id: str) -> None:
        self._over(subscription)
        self._take_back(subscription, feed_id)

    def _take_back(self, subscription: Subscription[U], feed_id: str) -> None:
        if feed_id and feed_id == self._feed_id:
            self._tasks.spawn(
                self._call_unsubscribe(subscription.identity, feed_id, subscription.number),
                name="feed-link-unsubscribe",
            )

    def _again(self, subscriptions: Sequence[Subscription[U]]) -> None:
        if not self._feed_id:
            return
        slots = asyncio.Semaphore(_CONCURRENCY)
        for subscription in subscriptions:
            self._tasks.spawn(
                self._subscribe_again(subscription, self._feed_id, slots),
                name="feed-link-subscribe",
            )

    async def _subscribe_again(
        self, subscription: Subscription[U], feed_id: str, slots: asyncio.Semaphore
    ) -> None:
        delay = _FIRST_DELAY
        while subscription.open and self._feed_id == feed_id:
            try:
                async with slots:
                    await self._call_subscribe(subscription, feed_id)
            except Failure as failure:
                if failure.reason not in _PASSING:
                    if subscription.open:
                        self._over(subscription)
                        subscription.on_end(failure)
                    return
                # After a timeout the peer may follow it all the same.
                self._take_back(subscription, feed_id)
                await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311
                delay = min(_LAST_DELAY, delay * 2)
            else:
                if not subscription.open:
                    # Unsubscribed meanwhile, perhaps before the peer knew of it.
                    self._take_back(subscription, feed_id)
                return

    async def _call_subscribe(self, subscription: Subscription[U], feed_id: str) -> None:
        # A new number each time: the peer may know the one of a call that failed.
        self._routes.pop(subscription.number, None)
        if subscription.number:
            subscription.on_reset()
        self._number += 1
        subscription.number = self._number
        self._routes[subscription.number] = subscription
        await self._peer.call(
            self._subscribe_method,
            subscription.request(feed_id, subscription.number),
            self._subscribed,
            identity=subscription.identity,
            timeout=_CALL_TIMEOUT,
        )

    async def _call_unsubscribe(self, identity: Identity, feed_id: str, number: int) -> None:
        request: Any = self._unsubscribe_request
        try:
            await self._peer.call(
                self._unsubscribe_method,
                request(feed_id=feed_id, subscription=number),
                self._unsubscribed,
                identity=identity,
                timeout=_CALL_TIMEOUT,
            )
        except Failure as failure:
            log.debug("not unsubscribed", extra={"reason": failure.reason_name})


def _messages(method: str) -> tuple[type[Message], type[Message]]:
    """Return the request and the response class of a method's full name."""
    pool: Any = descriptor_pool.Default()
    found = pool.FindMethodByName(method.removeprefix("/").replace("/", "."))
    return (
        message_factory.GetMessageClass(found.input_type),
        message_factory.GetMessageClass(found.output_type),
    )
