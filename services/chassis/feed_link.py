"""The consuming side of a feed: keeps one open, and its subscriptions with it.

Does not know what the updates are. Callbacks are plain functions, called from
the reader: no task, queue or lock for an update.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing, suppress
from datetime import timedelta
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message

from moorline.errors.v1 import errors_pb2
from services.chassis.backoff import Backoff
from services.chassis.client import Peer
from services.chassis.failures import Failure
from services.chassis.feed_calls import FeedCalls, Subscription
from services.chassis.identity import Identity
from services.chassis.silence import Silence
from services.chassis.tasks import Tasks

__all__ = ["SILENCE_SECONDS", "FeedLink", "Subscription"]

U = TypeVar("U")

log = logging.getLogger(__name__)

SILENCE_SECONDS = 10.0
"""A feed that brought nothing for so long is broken; it should beat every 3 s."""

_CONCURRENCY = 64
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
            the subscription or None. Sees the empty responses too.
        tasks: Owns the reader.
        identity: Whom the feed is opened for.
        on_change: Called when the feed has opened, and when it broke.
        lasting: False ends every subscription at a break, as SERVICE_UNAVAILABLE, for
            an owner that looks for another peer then.
        patience: How long `subscribe` waits for the feed to be open.
        silence: A feed that brought nothing for so long is broken.
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
        on_change: Callable[[], None] = lambda: None,
        lasting: bool = True,
        patience: timedelta = timedelta(seconds=2),
        silence: timedelta = timedelta(seconds=SILENCE_SECONDS),
    ) -> None:
        self._service = peer.service
        self._target = peer.target
        self._calls = FeedCalls(
            peer=peer,
            open_method=open_method,
            open_request=open_request,
            open_response=open_response,
            subscribe_method=subscribe_method,
            unsubscribe_method=unsubscribe_method,
            identity=identity,
        )
        self._split = split
        self._tasks = tasks
        self._on_change = on_change
        self._lasting = lasting
        self._patience = patience.total_seconds()
        # The mutable state: what must be followed, what each number on the open
        # feed stands for, and the open feed's id, empty while there is none.
        self._kept: dict[Subscription[U], None] = {}
        self._routes: dict[int, Subscription[U]] = {}
        self._feed_id = ""
        self._number = 0
        self._delivering: Subscription[U] | None = None
        # Ends the reading, and the calls that a break makes pointless.
        self._silence = Silence(seconds=silence.total_seconds())
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
        call: Callable[[str, int], Awaitable[bool]] | None = None,
    ) -> Subscription[U]:
        """Follow something from now on, whatever breaks after this has returned.

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
            call: Another call that puts it on the feed, the first time, given the same
                as `request`. Returns False when it has not; then it is not followed. It is
                waited for, also when the feed breaks.

        Raises:
            Failure: What the peer answered; SERVICE_UNAVAILABLE when the feed is
                not open within the patience, or breaks before the answer.
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
            kept = await self._call_subscribe(subscription, feed_id, call) and subscription.open
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
        return subscription

    async def unsubscribe(self, subscription: Subscription[U]) -> None:
        """Stop following; nothing is delivered from now on. Never raises.

        The peer is told in the background, when it can be reached.
        """
        if subscription.open:
            self._kept.pop(subscription, None)
            self._forget(subscription, self._feed_id)

    def finished(self, subscription: Subscription[U]) -> None:
        """Note that the peer has ended a subscription in good order, and need not be told."""
        self._over(subscription)

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
            f"The {self._service} service cannot be reached. Try again.",
            retry_delay=timedelta(seconds=1),
            service=self._service,
        )

    async def _keep_open(self) -> None:
        loop = asyncio.get_running_loop()
        backoff = Backoff()
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
            if loop.time() - start > _GOOD_SECONDS:
                backoff.reset()
            await backoff.pause()

    async def _read(self, feed_id: str) -> None:
        loop = asyncio.get_running_loop()
        responses = self._calls.open(feed_id)
        reason = "ended"
        try:
            async with aclosing(responses):
                async with asyncio.timeout(2 * self._patience):
                    first = await anext(responses, None)
                if first is not None:
                    self._deliver(first)
                    self._opened(feed_id)
                async with self._silence.unbroken():
                    async for response in responses:
                        self._silence.heard = loop.time()
                        self._deliver(response)
        except TimeoutError:
            reason = "silent" if self._feed_id else "no first response"
        except Failure as failure:
            reason = failure.reason_name
        if self._feed_id:
            log.warning("feed broken", extra=self._facts() | {"reason": reason})

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
        log.info("feed open", extra=self._facts())
        self._feed_id = feed_id
        self._disconnected_since = None
        self._connected.set()
        self._silence.begin()
        self._again(feed_id)
        asyncio.get_running_loop().call_soon(self._on_change)

    def _broken(self) -> None:
        loop = asyncio.get_running_loop()
        self._routes.clear()
        self._silence.end()
        if self._feed_id:
            self._feed_id = ""
            self._connected.clear()
            self._disconnected_since = loop.time()
            loop.call_soon(self._on_change)
        culprit, self._delivering = self._delivering, None
        if culprit is not None:
            # Its consumer raised. Following on would break the feed for all again.
            self._over(culprit)
            failure = Failure(errors_pb2.ERROR_REASON_INTERNAL, "An update was not understood.")
            loop.call_soon(culprit.on_end, failure)
        if not self._lasting:
            for subscription in self._kept:
                loop.call_soon(self._end, subscription, self._unavailable())

    def _end(self, subscription: Subscription[U], failure: Failure) -> None:
        if subscription.open:
            self._over(subscription)
            subscription.on_end(failure)

    def _facts(self) -> dict[str, object]:
        return {
            "peer": self._service,
            "target": self._target,
            "subscriptions": len(self._kept),
        }

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

    def _again(self, feed_id: str) -> None:
        slots = asyncio.Semaphore(_CONCURRENCY)
        for subscription in self._kept:
            self._tasks.spawn(
                self._subscribe_again(subscription, feed_id, slots), name="feed-link-subscribe"
            )

    async def _subscribe_again(
        self, subscription: Subscription[U], feed_id: str, slots: asyncio.Semaphore
    ) -> None:
        backoff = Backoff()
        while True:
            try:
                async with slots:
                    # By now another feed may be open, with attempts of its own.
                    if not subscription.open or self._feed_id != feed_id:
                        return
                    await self._call_subscribe(subscription, feed_id)
            except Failure as failure:
                if failure.reason not in _PASSING:
                    self._end(subscription, failure)
                    return
                # After a timeout the peer may follow it all the same.
                self._take_back(subscription, feed_id)
                await backoff.pause()
            else:
                if not subscription.open:
                    # Unsubscribed meanwhile, perhaps before the peer knew of it.
                    self._take_back(subscription, feed_id)
                return

    async def _call_subscribe(
        self,
        subscription: Subscription[U],
        feed_id: str,
        call: Callable[[str, int], Awaitable[bool]] | None = None,
    ) -> bool:
        # A new number each time: the peer may know the one of a call that failed.
        self._routes.pop(subscription.number, None)
        if subscription.number:
            subscription.on_reset()
        self._number += 1
        subscription.number = self._number
        self._routes[subscription.number] = subscription
        broken = followed = True
        if call is not None:
            # Not given up with the feed: whoever makes it must know what it did.
            followed = await call(feed_id, subscription.number)
            broken = self._feed_id != feed_id
        else:
            with suppress(TimeoutError):
                async with self._silence.unbroken():
                    await self._calls.subscribe(subscription, feed_id)
                # It may break, too, when the answer is here already.
                broken = self._feed_id != feed_id
        if broken and subscription.open:
            raise self._unavailable()
        return followed

    async def _call_unsubscribe(self, identity: Identity, feed_id: str, number: int) -> None:
        try:
            await self._calls.unsubscribe(identity, feed_id, number)
        except Failure as failure:
            log.debug("not unsubscribed", extra={"reason": failure.reason_name})
