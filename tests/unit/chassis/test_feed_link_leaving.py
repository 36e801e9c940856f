"""Tests of `services.chassis.feed_link`: unsubscribing and closing, over real connections."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from moorline.errors.v1 import errors_pb2
from services.chassis.failures import Failure, not_found
from services.chassis.feed_link import FeedLink
from tests.unit.chassis.followed import (
    GATEWAY,
    FeedService,
    Follower,
    History,
)
from tests.unit.chassis.service import Running, until


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

    class Always(list[Failure]):
        def pop(self, *_: Any) -> Any:
            return self[-1]

    subscription = await Follower().follow(link)
    service.refusals = Always([Failure(errors_pb2.ERROR_REASON_STORE_UNAVAILABLE, "Later.")])
    service.break_feeds()
    await until(lambda: bool(service.unsubscribed))

    await link.unsubscribe(subscription)
    # Each attempt has a number of its own; that of the last one may be on its way.
    attempts = subscription.number

    # What is left are the link's keeper and its reader.
    await until(lambda: len(link._tasks) == 2)
    assert (subscription.number, len(service.callers)) == (attempts, attempts)


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
