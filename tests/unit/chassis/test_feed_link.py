"""Tests of `services.chassis.feed_link`, over real connections."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from moorline.errors.v1 import errors_pb2
from services.chassis.failures import Failure, not_found
from services.chassis.feed_link import FeedLink
from services.chassis.tasks import Tasks
from services.local.ports import LOOPBACK, free_port
from tests.unit.chassis.followed import (
    FeedService,
    Follower,
    History,
    Numbers,
    link_to,
)
from tests.unit.chassis.service import Running, peer_of, until


async def test_another_call_may_put_it_on_the_feed(
    link: FeedLink[Any], service: FeedService, history: History
) -> None:
    """Given the feed and a number; one that did not is not followed."""
    history.append(2)
    followed, ignored = Follower(), Follower()

    async def put(feed_id: str, number: int) -> bool:
        opened = service.feeds.get(feed_id)
        source = Numbers(history, 0, lambda: opened.mark(number))
        history.sources.append(source)
        opened.add(number, source)
        return True

    async def leave(feed_id: str, number: int) -> bool:
        return False

    await followed.follow(link, put)
    subscription = await ignored.follow(link, leave)
    await followed.has(2)

    assert 1 == len(link)
    assert not subscription.open
    assert [] == service.callers


async def test_what_the_peer_has_ended_needs_no_call(
    link: FeedLink[Any], service: FeedService, history: History
) -> None:
    """It is forgotten; doing it twice changes nothing."""
    subscription = await Follower().follow(link)
    link.finished(subscription)
    link.finished(subscription)
    other = await Follower().follow(link)
    await link.unsubscribe(other)
    await until(lambda: bool(service.unsubscribed))

    assert [other.number] == service.unsubscribed
    assert not subscription.open


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
    # Not one that the system gives to whoever asks for any while nobody listens there.
    target = f"{LOOPBACK}:{free_port()}"
    async with (
        FeedService(history).serving(listen=target) as server,
        peer_of(target) as peer,
        Tasks() as tasks,
    ):
        link = link_to(peer, tasks)
        await asyncio.gather(*(follower.follow(link) for follower in followers))
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


async def test_a_break_during_the_call_is_unavailable(
    link: FeedLink[Any], service: FeedService, history: History
) -> None:
    """The caller learns of it at once, not when the call's time is over; nothing is left."""
    service.gate.clear()
    follower = Follower()
    subscribing = asyncio.create_task(follower.follow(link))
    await service.arrived.wait()

    service.break_feeds()

    # A call whose own time is over ends with another reason.
    with pytest.raises(Failure, match="cannot be reached") as caught:
        await subscribing
    assert caught.value.reason_name == "SERVICE_UNAVAILABLE"
    await until(lambda: len(service.feed_ids) == 2 and link.connected)
    assert (len(link), follower.ends, follower.resets) == (0, [], 0)
    assert history.sources == []


async def test_a_break_during_another_call_leaves_that_its_answer(
    link: FeedLink[Any], service: FeedService
) -> None:
    """Whoever makes it must know what it did, and a peer that leaves still says so."""

    async def refused(feed_id: str, number: int) -> bool:
        service.break_feeds()
        await until(lambda: not link.connected)
        raise not_found()

    with pytest.raises(Failure) as caught:
        await Follower().follow(link, refused)

    assert "RESOURCE_NOT_FOUND" == caught.value.reason_name


async def test_an_end_before_a_break_is_no_failure_of_the_call(
    link: FeedLink[Any], service: FeedService, history: History
) -> None:
    """What was over when the feed broke was told to `on_end`, and only there."""
    service.gate.clear()
    history.finish(not_found())
    follower = Follower()
    subscribing = asyncio.create_task(follower.follow(link))
    await until(lambda: bool(follower.ends))

    service.break_feeds()

    assert not (await subscribing).open
    assert follower.ends == ["RESOURCE_NOT_FOUND"]


async def test_a_second_break_leaves_no_attempt_of_the_first(
    link: FeedLink[Any], service: FeedService, history: History
) -> None:
    """Attempts that still wait for their turn do not disturb those on the next feed."""
    followers = [Follower() for _ in range(200)]
    await asyncio.gather(*(follower.follow(link) for follower in followers))
    service.gate.clear()
    service.arrived.clear()
    service.break_feeds()
    await service.arrived.wait()

    service.break_feeds()
    await until(lambda: not link.connected)
    await until(lambda: link.connected)
    service.gate.set()
    history.append(2)

    for follower in followers:
        await follower.has(2)
    assert {follower.resets for follower in followers} <= {1, 2}
