"""Tests of `services.chassis.feed_link`: what becomes of a feed that is silent or breaks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from moorline.session.v1 import feed_pb2
from services.chassis.failures import Failure, not_found
from services.chassis.feed import HEARTBEAT_SECONDS
from services.chassis.feed_link import SILENCE_SECONDS, FeedLink
from services.chassis.tasks import Tasks
from tests.unit.chassis.followed import FeedService, Follower, History, link_to, split
from tests.unit.chassis.service import Running, peer_of, until

SHORT = timedelta(seconds=0.2)


@asynccontextmanager
async def linked(server: Running, **changes: Any) -> AsyncIterator[FeedLink[Any]]:
    """Run a link."""
    async with peer_of(server.target) as peer, Tasks() as tasks:
        link = link_to(peer, tasks, **changes)
        await until(lambda: link.connected)
        yield link


async def test_a_silent_feed_is_opened_again(
    history: History, caplog: pytest.LogCaptureFixture
) -> None:
    """Its subscriptions go on from their positions; the break is logged once."""
    caplog.set_level(logging.WARNING)
    silent = asyncio.Event()

    class Falling(FeedService):
        async def OpenFeed(  # noqa: N802
            self, request: feed_pb2.OpenFeedRequest, context: Any
        ) -> AsyncIterator[feed_pb2.OpenFeedResponse]:
            first = not self.feed_ids
            async for response in super().OpenFeed(request, context):
                if not (first and silent.is_set()):
                    yield response

    service = Falling(history, heartbeat=timedelta(seconds=0.05))
    follower = Follower()
    # Long beside a beat, so that none of the next feed's is missed.
    silence = timedelta(seconds=1)
    async with service.serving() as server, linked(server, silence=silence) as link:
        await follower.follow(link)
        history.append(1)
        await follower.has(1)
        silent.set()

        await until(lambda: len(service.feed_ids) == 2 and link.connected)
        history.append(1)

        await follower.has(2)
        assert follower.resets == 1
    broken = [record for record in caplog.records if record.message == "feed broken"]
    assert [record.__dict__["reason"] for record in broken] == ["silent"]
    assert [record.__dict__["target"] for record in broken] == [server.target]


async def test_a_call_on_a_silent_feed_fails_with_it(service: FeedService, server: Running) -> None:
    """It does not wait for an answer that a dead peer cannot give."""
    service.gate.clear()
    async with linked(server, silence=SHORT) as link:
        # A call whose own time is over ends with another reason.
        with pytest.raises(Failure) as caught:
            await Follower().follow(link)

        assert caught.value.reason_name == "SERVICE_UNAVAILABLE"
        assert len(link) == 0


async def test_empty_responses_are_split_too(history: History) -> None:
    """The first one before the feed counts as open: the owner reads the time there."""
    service = FeedService(history, heartbeat=SHORT / 8)
    seen: list[bool] = []
    links: list[FeedLink[Any]] = []

    def noting(response: feed_pb2.OpenFeedResponse) -> list[Any]:
        seen.append(bool(links and links[0].connected))
        return split(response)

    async with (
        service.serving() as server,
        peer_of(server.target) as peer,
        Tasks() as tasks,
    ):
        links.append(link_to(peer, tasks, split=noting))
        await until(lambda: len(seen) >= 3)

    assert seen[:3] == [False, True, True]


async def test_changes_are_told(service: FeedService, server: Running) -> None:
    """When the feed opens and when it breaks; the callback sees the new state."""
    told: list[bool] = []
    links: list[FeedLink[Any]] = []
    async with peer_of(server.target) as peer, Tasks() as tasks:
        links.append(link_to(peer, tasks, on_change=lambda: told.append(links[0].connected)))
        await until(lambda: told == [True])

        service.door.clear()
        service.break_feeds()
        await until(lambda: told == [True, False])
        service.door.set()

        await until(lambda: told == [True, False, True])


async def test_a_stream_without_a_response_is_not_an_open_feed(history: History) -> None:
    """A server that ends it at once, with or without a failure, was never connected to."""

    class Closed(FeedService):
        async def OpenFeed(  # noqa: N802
            self, request: feed_pb2.OpenFeedRequest, context: Any
        ) -> AsyncIterator[feed_pb2.OpenFeedResponse]:
            self.feed_ids.append(request.feed_id)
            if len(self.feed_ids) % 2:
                raise not_found()
            return
            yield

    told: list[None] = []
    service = Closed(history)
    async with service.serving() as server, peer_of(server.target) as peer, Tasks() as tasks:
        link = link_to(peer, tasks, on_change=lambda: told.append(None))
        await until(lambda: len(service.feed_ids) > 2)

        assert (link.connected, told) == (False, [])


async def test_a_link_that_does_not_last_ends_all_at_a_break(
    service: FeedService, server: Running
) -> None:
    """Its owner subscribes elsewhere; nobody is told twice, or after unsubscribing."""
    followers = [Follower() for _ in range(3)]
    async with linked(server, lasting=False) as link:
        subscriptions = [await follower.follow(link) for follower in followers]
        link._on_change = lambda: subscriptions[2].__setattr__("open", False)
        service.break_feeds()

        await until(lambda: all(not subscription.open for subscription in subscriptions))
        await until(lambda: len(service.feed_ids) == 2 and link.connected)
        assert [follower.ends for follower in followers] == [
            ["SERVICE_UNAVAILABLE"],
            ["SERVICE_UNAVAILABLE"],
            [],
        ]
        assert len(service.callers) == 3


def test_silence_is_longer_than_three_beats() -> None:
    """A beat or two may be late."""
    assert SILENCE_SECONDS > 3 * HEARTBEAT_SECONDS
