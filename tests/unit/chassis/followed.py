"""A feed to follow, its follower and its history, for the tests of `feed_link`.

The session service's feed stands for any: a shape with an `end`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from moorline.errors.v1 import errors_pb2
from moorline.session.v1 import events_pb2, feed_pb2, feed_pb2_grpc
from services.chassis.client import Peer
from services.chassis.failures import Failure
from services.chassis.feed import HEARTBEAT_SECONDS, Feeds
from services.chassis.feed_link import FeedLink, Subscription
from services.chassis.identity import Identity, caller
from services.chassis.tasks import Tasks
from tests.unit.chassis.service import ADA, Running, running, until

GATEWAY = Identity(user="services/gateway")
PREFIX = "/moorline.session.v1.SessionFeedService/"


def split(response: feed_pb2.OpenFeedResponse) -> list[tuple[int, Sequence[Any], Any]]:
    """Take a response apart."""
    return [
        (part.subscription, part.updates, part.end if part.HasField("end") else None)
        for part in response.subscriptions
    ]


class Numbers:
    """A source of the numbers after a position, which it waits to be told."""

    def __init__(self, history: History, position: int, mark: Callable[[], None]) -> None:
        self.history = history
        self.position = position
        self.mark = mark
        self.done = False

    def take(self, budget: int, news: feed_pb2.SubscribedUpdates) -> tuple[int, bool]:
        """See `Source`."""
        for number in range(self.position + 1, self.history.head + 1):
            news.updates.add(checkpoint=events_pb2.Checkpoint(sequence=number))
        self.position = self.history.head
        if self.history.end is not None:
            self.done = True
            news.end.CopyFrom(self.history.end.to_error())
        return news.ByteSize() if news.updates or self.done else 0, False

    def close(self) -> None:
        """See `Source`."""
        self.history.sources.remove(self)


class History:
    """Numbers from 1, followed by sources; survives servers as a store does."""

    def __init__(self) -> None:
        self.head = 0
        self.end: Failure | None = None
        self.sources: list[Numbers] = []

    def append(self, count: int = 1) -> None:
        """Add numbers and tell who follows."""
        self.head += count
        self.tell()

    def finish(self, failure: Failure) -> None:
        """End it."""
        self.end = failure
        self.tell()

    def tell(self) -> None:
        """Mark every source."""
        for source in self.sources:
            source.mark()


class FeedService(feed_pb2_grpc.SessionFeedServiceServicer):
    """Serves the feed of one history; `refusals` are raised by the next subscribes."""

    def __init__(
        self, history: History, *, heartbeat: timedelta = timedelta(seconds=HEARTBEAT_SECONDS)
    ) -> None:
        self.history = history
        self.feeds: Feeds[feed_pb2.SubscribedUpdates, feed_pb2.OpenFeedResponse] = Feeds(
            response=feed_pb2.OpenFeedResponse,
            empty=feed_pb2.OpenFeedResponse,
            heartbeat=heartbeat,
        )
        self.refusals: list[Failure] = []
        self.callers: list[str] = []
        self.unsubscribed: list[int] = []
        self.feed_ids: list[str] = []
        # Feeds open while this is set.
        self.door = asyncio.Event()
        self.door.set()
        # Subscribes reach `arrived` and wait for `gate` when they have done their work.
        self.arrived = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()

    async def OpenFeed(  # noqa: N802
        self, request: feed_pb2.OpenFeedRequest, context: Any
    ) -> AsyncIterator[feed_pb2.OpenFeedResponse]:
        """See the proto."""
        self.feed_ids.append(request.feed_id)
        await self.door.wait()
        async for response in self.feeds.open(request.feed_id, caller().user):
            yield response

    async def Subscribe(  # noqa: N802
        self, request: feed_pb2.SubscribeRequest, context: Any
    ) -> feed_pb2.SubscribeResponse:
        """See the proto."""
        self.callers.append(caller().user)
        if self.refusals:
            raise self.refusals.pop()
        opened = self.feeds.get(request.feed_id)
        number = request.subscription
        source = Numbers(
            self.history, request.watch_events.after_sequence, lambda: opened.mark(number)
        )
        self.history.sources.append(source)
        opened.add(number, source)
        self.arrived.set()
        await self.gate.wait()
        return feed_pb2.SubscribeResponse()

    async def Unsubscribe(  # noqa: N802
        self, request: feed_pb2.UnsubscribeRequest, context: Any
    ) -> feed_pb2.UnsubscribeResponse:
        """See the proto."""
        self.unsubscribed.append(request.subscription)
        self.feeds.get(request.feed_id).remove(request.subscription)
        return feed_pb2.UnsubscribeResponse()

    def break_feeds(self) -> None:
        """End every stream as a lost connection does."""
        for feed_id in self.feed_ids:
            try:
                broken = self.feeds.get(feed_id)
            except Failure:
                continue
            broken.end(Failure(errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE, "Broken."))

    @asynccontextmanager
    async def serving(self, **changes: Any) -> AsyncIterator[Running]:
        """Run a server with this service."""

        def register(to: Any) -> None:
            feed_pb2_grpc.add_SessionFeedServiceServicer_to_server(self, to)

        async with running(register, draining=self.feeds.drain, **changes) as server:
            yield server


@dataclass
class Follower:
    """Consumes one subscription."""

    numbers: list[int] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)
    resets: int = 0
    poison: int | None = None

    def request(self, feed_id: str, subscription: int) -> feed_pb2.SubscribeRequest:
        """Follow from the last number seen."""
        request = feed_pb2.SubscribeRequest(feed_id=feed_id, subscription=subscription)
        request.watch_events.after_sequence = self.numbers[-1] if self.numbers else 0
        return request

    def on_updates(self, updates: Sequence[Any]) -> None:
        """Note the numbers."""
        for update in updates:
            if update.checkpoint.sequence == self.poison:
                raise KeyError(self.poison)
            self.numbers.append(update.checkpoint.sequence)

    def on_end(self, failure: Failure) -> None:
        """Note why."""
        self.ends.append(failure.reason_name)

    def on_reset(self) -> None:
        """Note that it happened."""
        self.resets += 1

    async def follow(
        self, link: FeedLink[Any], call: Callable[[str, int], Awaitable[bool]] | None = None
    ) -> Subscription[Any]:
        """Subscribe for Ada."""
        return await link.subscribe(
            identity=ADA,
            request=self.request,
            on_updates=self.on_updates,
            on_end=self.on_end,
            on_reset=self.on_reset,
            call=call,
        )

    async def has(self, head: int) -> None:
        """Wait for all numbers up to `head`, each once and in order."""
        await until(lambda: self.numbers == list(range(1, head + 1)))


def link_to(
    peer: Peer, tasks: Tasks, *, patience: timedelta = timedelta(seconds=5), **changes: Any
) -> FeedLink[Any]:
    """Return a link over a peer."""
    options: dict[str, Any] = {"split": split} | changes
    return FeedLink(
        peer=peer,
        open_method=PREFIX + "OpenFeed",
        open_request=lambda feed_id: feed_pb2.OpenFeedRequest(feed_id=feed_id),
        open_response=feed_pb2.OpenFeedResponse,
        subscribe_method=PREFIX + "Subscribe",
        unsubscribe_method=PREFIX + "Unsubscribe",
        tasks=tasks,
        identity=GATEWAY,
        patience=patience,
        **options,
    )
