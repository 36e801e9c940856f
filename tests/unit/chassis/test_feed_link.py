"""Tests of `services.chassis.feed_link`, over real connections.

The session service's feed stands for any: a shape with an `end`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeAlias

import pytest

from moorline.errors.v1 import errors_pb2
from moorline.session.v1 import feed_pb2, feed_pb2_grpc
from services.chassis.client import Peer
from services.chassis.failures import Failure, not_found
from services.chassis.feed import Feeds
from services.chassis.feed_link import FeedLink, Subscription
from services.chassis.identity import Identity, caller
from services.chassis.tasks import Tasks
from tests.unit.chassis.service import ADA, Running, peer_of, running, until

GATEWAY = Identity(user="services/gateway")
PREFIX = "/moorline.session.v1.SessionFeedService/"

Update: TypeAlias = feed_pb2.EncodedUpdate | errors_pb2.Error


def wrap(batch: list[tuple[int, Sequence[Update]]]) -> feed_pb2.OpenFeedResponse:
    """Build a response; an error among the updates is the end."""
    response = feed_pb2.OpenFeedResponse()
    for number, updates in batch:
        part = response.subscriptions.add(subscription=number)
        for update in updates:
            if isinstance(update, errors_pb2.Error):
                part.end.CopyFrom(update)
            else:
                part.updates.append(update)
    return response


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

    def take(self, budget: int) -> tuple[Sequence[Update], bool]:
        """See `Source`."""
        numbers = range(self.position + 1, self.history.head + 1)
        self.position = self.history.head
        taken: list[Update] = [feed_pb2.EncodedUpdate(checkpoint=number) for number in numbers]
        if self.history.end is not None:
            self.done = True
            taken.append(self.history.end.to_error())
        return taken, False

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

    def __init__(self, history: History) -> None:
        self.history = history
        self.feeds: Feeds[Update, feed_pb2.OpenFeedResponse] = Feeds(wrap=wrap)
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
            if update.checkpoint == self.poison:
                raise KeyError(self.poison)
            self.numbers.append(update.checkpoint)

    def on_end(self, failure: Failure) -> None:
        """Note why."""
        self.ends.append(failure.reason_name)

    def on_reset(self) -> None:
        """Note that it happened."""
        self.resets += 1

    async def follow(self, link: FeedLink[Any]) -> Subscription[Any]:
        """Subscribe for Ada."""
        return await link.subscribe(
            identity=ADA,
            request=self.request,
            on_updates=self.on_updates,
            on_end=self.on_end,
            on_reset=self.on_reset,
        )

    async def has(self, head: int) -> None:
        """Wait for all numbers up to `head`, each once and in order."""
        await until(lambda: self.numbers == list(range(1, head + 1)))


def link_to(
    peer: Peer, tasks: Tasks, *, patience: timedelta = timedelta(seconds=5)
) -> FeedLink[Any]:
    """Return a link over a peer."""
    return FeedLink(
        peer=peer,
        open_method=PREFIX + "OpenFeed",
        open_request=lambda feed_id: feed_pb2.OpenFeedRequest(feed_id=feed_id),
        open_response=feed_pb2.OpenFeedResponse,
        subscribe_method=PREFIX + "Subscribe",
        unsubscribe_method=PREFIX + "Unsubscribe",
        split=split,
        tasks=tasks,
        identity=GATEWAY,
        patience=patience,
    )


@pytest.fixture
def history() -> History:
    """What is followed."""
    return History()


@pytest.fixture
def service(history: History) -> FeedService:
    """The serving side."""
    return FeedService(history)


@pytest.fixture
async def server(service: FeedService) -> AsyncIterator[Running]:
    """Its server."""
    async with service.serving() as server:
        yield server


@pytest.fixture
async def link(server: Running) -> AsyncIterator[FeedLink[Any]]:
    """A link to the server."""
    async with peer_of(server.target) as peer, Tasks() as tasks:
        yield link_to(peer, tasks)


async def test_updates_arrive_in_order(
    link: FeedLink[Any], service: FeedService, history: History
) -> None:
    """From the position of the request on; the call is made for the follower's user."""
    history.append(3)
    follower = Follower(numbers=[1])

    await follower.follow(link)
    await follower.has(3)
    history.append(2)

    await follower.has(5)
    assert service.callers == ["users/ada"]
    assert (follower.resets, len(link), link.connected, link.disconnected_since) == (
        0,
        1,
        True,
        None,
    )


async def test_updates_may_come_before_the_answer(
    link: FeedLink[Any], service: FeedService, history: History
) -> None:
    """Nothing is lost when the stream is faster than the Subscribe call."""
    service.gate.clear()
    history.append(2)
    follower = Follower()
    subscribing = asyncio.create_task(follower.follow(link))

    await follower.has(2)

    assert not subscribing.done()
    service.gate.set()
    assert (await subscribing).open


async def test_the_end_is_told_once(
    link: FeedLink[Any], service: FeedService, history: History
) -> None:
    """The last updates come before it, and the link forgets the subscription."""
    follower = Follower()
    subscription = await follower.follow(link)

    history.head = 2
    history.finish(not_found())

    await until(lambda: bool(follower.ends))
    assert (follower.numbers, follower.ends) == ([1, 2], ["RESOURCE_NOT_FOUND"])
    assert (subscription.open, len(link)) == (False, 0)
    await link.unsubscribe(subscription)
    assert service.unsubscribed == []


async def test_the_end_may_come_before_the_answer(
    link: FeedLink[Any], service: FeedService, history: History
) -> None:
    """Then `subscribe` returns what is over already."""
    service.gate.clear()
    history.finish(not_found())
    follower = Follower()
    subscribing = asyncio.create_task(follower.follow(link))

    await until(lambda: bool(follower.ends))
    service.gate.set()

    assert not (await subscribing).open
    assert (follower.ends, len(link)) == (["RESOURCE_NOT_FOUND"], 0)


async def test_a_refused_subscription_raises(link: FeedLink[Any], service: FeedService) -> None:
    """The caller gets the peer's failure and no call of `on_end`."""
    service.refusals = [not_found()]
    follower = Follower()

    with pytest.raises(Failure, match="does not exist"):
        await follower.follow(link)

    assert (follower.ends, len(link)) == ([], 0)


async def test_a_feed_lost_under_the_call_is_unavailable(
    link: FeedLink[Any], service: FeedService
) -> None:
    """FEED_UNKNOWN is nothing the caller could act on."""
    service.refusals = [Failure(errors_pb2.ERROR_REASON_FEED_UNKNOWN, "Gone.")]

    with pytest.raises(Failure, match="cannot be reached") as caught:
        await Follower().follow(link)

    assert caught.value.reason_name == "SERVICE_UNAVAILABLE"
    assert caught.value.metadata == {"service": "test"}


async def test_subscribing_to_a_peer_that_is_not_there_fails_fast(server: Running) -> None:
    """It waits for its patience; the link knows since when it tries."""
    async with peer_of("127.0.0.1:1") as peer, Tasks() as tasks:
        link = link_to(peer, tasks, patience=timedelta(milliseconds=20))

        with pytest.raises(Failure) as caught:
            await Follower().follow(link)

        assert caught.value.reason_name == "SERVICE_UNAVAILABLE"
        assert not link.connected
        assert link.disconnected_since is not None


async def test_a_feed_that_does_not_open_is_tried_again(service: FeedService) -> None:
    """A server that hangs before the first response is left."""
    service.door.clear()
    async with service.serving() as server, peer_of(server.target) as peer, Tasks() as tasks:
        link = link_to(peer, tasks, patience=timedelta(milliseconds=30))
        await until(lambda: len(service.feed_ids) > 1)
        service.door.set()

        await until(lambda: link.connected)

        assert len(set(service.feed_ids)) == len(service.feed_ids)


async def test_following_survives_a_restart(history: History) -> None:
    """After a restart on the same port each follower goes on from its own position."""
    followers = [Follower() for _ in range(100)]
    async with FeedService(history).serving() as server:
        target = server.target
        async with peer_of(target) as peer, Tasks() as tasks:
            link = link_to(peer, tasks)
            for follower in followers:
                await follower.follow(link)
            history.append(3)
            for follower in followers:
                await follower.has(3)

            server.task.cancel()
            await asyncio.wait([server.task])
            await until(lambda: not link.connected)
            assert link.disconnected_since is not None
            history.append(2)
            async with FeedService(history).serving(listen=target):
                for follower in followers:
                    await follower.has(5)
                history.append(1)
                for follower in followers:
                    await follower.has(6)

                assert {follower.resets for follower in followers} == {1}
                assert len(link) == len(history.sources) == 100


async def test_a_new_attempt_is_made_while_the_reason_passes(
    link: FeedLink[Any], service: FeedService, history: History
) -> None:
    """A store that is away for a moment does not end a subscription."""
    follower = Follower()
    await follower.follow(link)
    service.refusals = [
        Failure(errors_pb2.ERROR_REASON_STORE_UNAVAILABLE, "Later."),
        Failure(errors_pb2.ERROR_REASON_CALL_TIMEOUT, "Slow."),
    ]

    service.break_feeds()
    await until(lambda: follower.resets == 3)
    history.append(2)

    await follower.has(2)
    assert follower.ends == []


async def test_a_lasting_reason_ends_what_was_followed(
    link: FeedLink[Any], service: FeedService
) -> None:
    """What is gone when the link comes back ends through `on_end`."""
    follower = Follower()
    subscription = await follower.follow(link)
    service.refusals = [not_found()]

    service.break_feeds()

    await until(lambda: bool(follower.ends))
    assert follower.ends == ["RESOURCE_NOT_FOUND"]
    assert (subscription.open, len(link)) == (False, 0)


async def test_a_break_during_the_call_is_repaired(
    link: FeedLink[Any], service: FeedService, history: History
) -> None:
    """A subscription made on a feed that broke meanwhile is made again on the next."""
    service.gate.clear()
    follower = Follower()
    subscribing = asyncio.create_task(follower.follow(link))
    await service.arrived.wait()

    service.break_feeds()
    await until(lambda: len(service.feed_ids) == 2 and link.connected)
    service.gate.set()
    await subscribing
    history.append(2)

    await follower.has(2)
    assert follower.resets == 1


async def test_a_break_just_before_the_answer_is_repaired(
    link: FeedLink[Any], service: FeedService, history: History
) -> None:
    """The same, when the next feed is not open yet."""
    service.gate.clear()
    follower = Follower()
    subscribing = asyncio.create_task(follower.follow(link))
    await service.arrived.wait()

    service.door.clear()
    service.break_feeds()
    await until(lambda: not link.connected)
    service.gate.set()
    await subscribing
    service.door.set()
    history.append(1)

    await follower.has(1)


async def test_an_unsubscribed_consumer_hears_nothing(
    link: FeedLink[Any], service: FeedService, history: History
) -> None:
    """The peer is told in the background; doing it twice changes nothing."""
    gone, kept = Follower(), Follower()
    subscription = await gone.follow(link)
    await kept.follow(link)

    await link.unsubscribe(subscription)
    await link.unsubscribe(subscription)
    history.append(2)

    await kept.has(2)
    await until(lambda: len(history.sources) == 1)
    assert (gone.numbers, gone.ends, service.unsubscribed) == ([], [], [1])


async def test_unsubscribing_needs_no_connection(
    link: FeedLink[Any], service: FeedService, server: Running
) -> None:
    """Without a feed there is nothing to tell, and the next feed begins without it."""
    subscription = await Follower().follow(link)
    server.task.cancel()
    await until(lambda: not link.connected)

    await link.unsubscribe(subscription)

    assert len(link) == 0


async def test_a_peer_that_refuses_to_unsubscribe_is_no_problem(
    link: FeedLink[Any], service: FeedService, history: History
) -> None:
    """Unsubscribing never raises; what still comes is ignored."""
    subscription, other = await Follower().follow(link), Follower()
    await other.follow(link)
    opened = service.feeds.get(service.feed_ids[0])
    service.feeds._feeds.clear()

    await link.unsubscribe(subscription)
    await until(lambda: service.unsubscribed == [1])
    history.append(1)

    await other.has(1)
    service.feeds._feeds[service.feed_ids[0]] = (GATEWAY.user, opened)


async def test_a_cancelled_subscribe_is_taken_back(
    link: FeedLink[Any], service: FeedService, history: History
) -> None:
    """Neither side keeps anything of it."""
    service.gate.clear()
    subscribing = asyncio.create_task(Follower().follow(link))
    await service.arrived.wait()

    subscribing.cancel()

    await until(lambda: not history.sources)
    assert (service.unsubscribed, len(link)) == ([1], 0)


async def test_unsubscribing_during_a_new_attempt_is_told_after_it(
    link: FeedLink[Any], service: FeedService, history: History
) -> None:
    """The peer may hear of the end first; it is told again when it knows both."""
    follower = Follower()
    subscription = await follower.follow(link)
    service.gate.clear()
    service.arrived.clear()
    service.break_feeds()
    await service.arrived.wait()

    await link.unsubscribe(subscription)
    service.gate.set()

    await until(lambda: service.unsubscribed == [2, 2])
    assert history.sources == []


async def test_unsubscribing_between_attempts_ends_them(
    link: FeedLink[Any], service: FeedService
) -> None:
    """Nobody asks again for what nobody follows."""
    subscription = await Follower().follow(link)
    service.refusals = [Failure(errors_pb2.ERROR_REASON_STORE_UNAVAILABLE, "Later.")]
    service.break_feeds()
    await until(lambda: not service.refusals)
    await until(lambda: service.unsubscribed == [2])

    await link.unsubscribe(subscription)

    # What is left are the link's keeper and its reader.
    await until(lambda: len(link._tasks) == 2)
    assert len(service.callers) == 2


async def test_unsubscribing_during_a_refused_attempt_tells_nobody(
    link: FeedLink[Any], service: FeedService
) -> None:
    """Who has unsubscribed gets no end, whatever the attempt in progress says."""
    follower = Follower()
    subscription = await follower.follow(link)
    released = asyncio.Event()

    class Slow(list[Failure]):
        def pop(self, *_: Any) -> Any:
            subscription.open = False
            released.set()
            return super().pop()

    service.refusals = Slow([not_found()])

    service.break_feeds()
    await released.wait()
    await until(lambda: link.connected)
    await asyncio.sleep(0.01)

    assert follower.ends == []


async def test_a_consumer_that_raises_loses_its_own_subscription_only(
    link: FeedLink[Any], history: History, caplog: pytest.LogCaptureFixture
) -> None:
    """The bug is logged, the others go on without a gap."""
    bad, good = Follower(poison=2), Follower()
    await bad.follow(link)
    await good.follow(link)

    history.append(3)

    await good.has(3)
    assert bad.ends == ["INTERNAL"]
    assert len(link) == 1
    assert re.search("KeyError: 2", caplog.text)


async def test_a_closed_link_calls_nobody(
    link: FeedLink[Any], service: FeedService, history: History
) -> None:
    """The stream ends, and with it all subscriptions."""
    follower = Follower()
    subscription = await follower.follow(link)

    link.close()

    await until(lambda: not history.sources)
    assert (subscription.open, len(link), follower.ends) == (False, 0, [])
    await until(lambda: not link.connected)
