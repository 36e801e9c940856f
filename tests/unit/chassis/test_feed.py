"""Tests of `services.chassis.feed`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, TypeAlias

import pytest

from moorline.session.v1 import feed_pb2
from services.chassis.failures import Failure
from services.chassis.feed import RESPONSE_BYTES, TAKE_BYTES, Feed, Feeds

OWNER = "services/gateway"
News: TypeAlias = feed_pb2.SubscribedUpdates
Response: TypeAlias = feed_pb2.OpenFeedResponse
Batch: TypeAlias = list[tuple[int, list[str]]]


class FakeSource:
    """A queue of updates."""

    def __init__(self, *texts: str) -> None:
        self.waiting = list(texts)
        self.closed = 0
        self.done = False

    def put(self, *texts: str) -> None:
        """Add updates, without marking."""
        self.waiting += texts

    def take(self, budget: int, news: News) -> tuple[int, bool]:
        """See `Source`."""
        left = budget
        while self.waiting and left > 0:
            text = self.waiting.pop(0)
            news.updates.add(discarded_block_id=text)
            left -= len(text)
        return budget - left, bool(self.waiting)

    def close(self) -> None:
        """See `Source`."""
        self.closed += 1


async def shown(responses: Any) -> AsyncIterator[Batch]:
    """Yield responses in short: the texts by subscription."""
    async with aclosing(responses):
        async for response in responses:
            yield [
                (news.subscription, [update.discarded_block_id for update in news.updates])
                for news in response.subscriptions
            ]


@pytest.fixture
def feeds() -> Feeds[News, Response]:
    """The feeds of a server."""
    return Feeds(response=Response, empty=Response)


@pytest.fixture
async def stream(feeds: Feeds[News, Response]) -> AsyncIterator[Any]:
    """The stream of an open feed `f`, in short."""
    stream: Any = shown(feeds.open("f", OWNER))
    async with aclosing(stream):
        assert await anext(stream) == []
        yield stream


@pytest.fixture
def feed(feeds: Feeds[News, Response], stream: Any) -> Feed[News]:
    """The open feed `f`."""
    return feeds.get("f", OWNER)


async def test_what_a_source_has_is_sent(stream: Any, feed: Feed[News]) -> None:
    """A new subscription is taken from at once, and again when marked."""
    source = FakeSource("a", "b")
    feed.add(7, source)
    assert await anext(stream) == [(7, ["a", "b"])]

    source.put("c")
    feed.mark(7)

    assert await anext(stream) == [(7, ["c"])]


async def test_a_mark_wakes_the_writer(stream: Any, feed: Feed[News]) -> None:
    """A writer that waits goes on, and further marks of that moment go with it."""
    first, second = FakeSource(), FakeSource()
    feed.add(1, first)
    feed.add(2, second)
    response = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    assert not response.done()

    first.put("a")
    feed.mark(1)
    second.put("b")
    feed.mark(2)
    first.put("c")
    feed.mark(1)

    assert await response == [(1, ["a", "c"]), (2, ["b"])]


async def test_updates_combine_while_a_response_is_written(stream: Any, feed: Feed[News]) -> None:
    """All that comes during a write is one response, in the order of marking."""
    first, second = FakeSource("0"), FakeSource()
    feed.add(1, first)
    feed.add(2, second)
    assert await anext(stream) == [(1, ["0"])]

    # The stream is suspended at its `yield`, as it is during a write.
    for number in range(100):
        second.put(f"s{number}")
        feed.mark(2)
        first.put(f"f{number}")
        feed.mark(1)

    assert await anext(stream) == [
        (2, [f"s{number}" for number in range(100)]),
        (1, [f"f{number}" for number in range(100)]),
    ]


async def test_a_response_is_bounded_and_everyone_has_a_turn(stream: Any, feed: Feed[News]) -> None:
    """A long replay does not hold up others, and nobody is skipped."""
    texts = ["x" * (TAKE_BYTES // 2)] * 12
    sources = {number: FakeSource(*texts) for number in range(1, 7)}
    for number, source in sources.items():
        feed.add(number, source)

    seen: dict[int, int] = dict.fromkeys(sources, 0)
    turns: list[int] = []
    while any(source.waiting for source in sources.values()):
        response = await anext(stream)
        assert sum(len(text) for _, taken in response for text in taken) < 1.5 * RESPONSE_BYTES
        for number, taken in response:
            seen[number] += len(taken)
            turns.append(number)

    assert seen == dict.fromkeys(sources, len(texts))
    assert turns[:12] == [*sources, *sources]


async def test_one_large_update_is_sent_whole(stream: Any, feed: Feed[News]) -> None:
    """An update above the bound makes a response of its own."""
    feed.add(1, FakeSource("x" * (2 * RESPONSE_BYTES)))
    feed.add(2, FakeSource("a"))

    assert [number for number, _ in await anext(stream)] == [1]
    assert await anext(stream) == [(2, ["a"])]


async def test_a_source_that_is_done_leaves(stream: Any, feed: Feed[News]) -> None:
    """Its last updates are sent, then it is closed and its marks mean nothing."""
    source = FakeSource("last")
    source.done = True
    feed.add(1, source)

    assert await anext(stream) == [(1, ["last"])]

    assert source.closed == 1
    feed.mark(1)
    feed.add(2, FakeSource("a"))
    assert await anext(stream) == [(2, ["a"])]


async def test_a_removed_subscription_sends_no_more(stream: Any, feed: Feed[News]) -> None:
    """Removing closes the source once, also when repeated."""
    source = FakeSource("a")
    feed.add(1, source)

    feed.remove(1)
    feed.remove(1)

    assert source.closed == 1
    feed.add(2, FakeSource("b"))
    assert await anext(stream) == [(2, ["b"])]


async def test_taking_may_lead_to_unsubscribing(stream: Any, feed: Feed[News]) -> None:
    """A source whose take removes itself and others disturbs nobody."""

    class Leaving(FakeSource):
        def take(self, budget: int, news: News) -> tuple[int, bool]:
            feed.remove(1)
            feed.remove(2)
            return super().take(budget, news)[0], True

    feed.add(1, Leaving("bye"))
    feed.add(2, FakeSource("never"))

    assert await anext(stream) == [(1, ["bye"])]
    feed.add(3, FakeSource("a"))
    assert await anext(stream) == [(3, ["a"])]


@pytest.mark.parametrize("number", [0, -1, 5])
async def test_a_number_is_used_once(feed: Feed[News], number: int) -> None:
    """A number in use or below 1 is refused, and its source closed."""
    feed.add(5, FakeSource())
    source = FakeSource()

    with pytest.raises(Failure) as caught:
        feed.add(number, source)

    assert caught.value.metadata["field"] == "subscription"
    assert source.closed == 1


async def test_the_end_of_a_stream_closes_its_sources(
    feeds: Feeds[News, Response], stream: Any, feed: Feed[News]
) -> None:
    """After the caller left, the feed is unknown and takes nothing."""
    sources = [FakeSource(), FakeSource(), FakeSource()]
    feed.add(1, sources[0])
    feed.add(2, sources[1])

    await stream.aclose()

    with pytest.raises(Failure) as added:
        feed.add(3, sources[2])
    with pytest.raises(Failure) as got:
        feeds.get("f")
    assert [source.closed for source in sources] == [1, 1, 1]
    assert {added.value.reason_name, got.value.reason_name} == {"FEED_UNKNOWN"}
    assert len(feeds) == 0


async def test_a_cancelled_stream_closes_its_sources(
    feeds: Feeds[News, Response], feed: Feed[News], stream: Any
) -> None:
    """A writer that waits can be cancelled; a mark after that is harmless."""
    source = FakeSource()
    feed.add(1, source)
    waiting = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)

    waiting.cancel()
    feed.mark(1)
    await asyncio.wait([waiting])

    assert source.closed == 1
    assert len(feeds) == 0


@pytest.mark.parametrize(("feed_id", "owner"), [("f", "users/eve"), ("", OWNER), ("x" * 65, OWNER)])
async def test_a_feed_has_one_owner(
    feeds: Feeds[News, Response], feed: Feed[News], feed_id: str, owner: str
) -> None:
    """Nobody else can open it again, and malformed ids are refused."""
    with pytest.raises(Failure) as caught:
        await anext(feeds.open(feed_id, owner))

    assert caught.value.metadata["field"] == "feed_id"
    assert feeds.get("f") is feed


async def test_another_owner_does_not_get_a_feed(
    feeds: Feeds[News, Response], feed: Feed[News]
) -> None:
    """For somebody else it is unknown; without an owner the id is enough."""
    assert feeds.get("f") is feed
    with pytest.raises(Failure) as caught:
        feeds.get("f", "users/eve")

    assert caught.value.reason_name == "FEED_UNKNOWN"


async def test_the_owner_may_open_a_feed_again(
    feeds: Feeds[News, Response], stream: Any, feed: Feed[News]
) -> None:
    """The stream before ends, and its end does not touch the new one."""
    source = FakeSource()
    feed.add(1, source)
    again: Any = shown(feeds.open("f", OWNER))
    assert await anext(again) == []

    with pytest.raises(Failure) as caught:
        await anext(stream)

    assert caught.value.reason_name == "CALL_CANCELLED"
    assert source.closed == 1
    assert feeds.get("f") is not feed
    await again.aclose()


async def test_drain_ends_every_feed(
    feeds: Feeds[News, Response], stream: Any, feed: Feed[News]
) -> None:
    """What is marked goes out first, then DRAINING; no feed is opened any more."""
    source = FakeSource("last")
    feed.add(1, source)
    draining = asyncio.ensure_future(feeds.drain())
    await asyncio.sleep(0)

    assert await anext(stream) == [(1, ["last"])]
    assert not draining.done()
    with pytest.raises(Failure) as ended:
        await anext(stream)
    await draining

    with pytest.raises(Failure) as refused:
        await anext(feeds.open("g", OWNER))
    assert {ended.value.reason_name, refused.value.reason_name} == {"DRAINING"}
    assert refused.value.retry_delay is not None
    assert source.closed == 1


async def test_drain_wakes_a_silent_feed(feeds: Feeds[News, Response], stream: Any) -> None:
    """A writer that waits for a mark ends as well."""
    waiting = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)

    await feeds.drain()

    with pytest.raises(Failure):
        await waiting


async def test_drain_without_feeds_returns() -> None:
    """A server nobody follows drains at once."""
    await Feeds[News, Response](response=Response, empty=Response).drain()


async def test_a_source_with_more_that_gives_nothing_does_not_block_the_loop(
    feeds: Feeds[News, Response], stream: Any
) -> None:
    """While it gives nothing, others run: what it waits for may be one of them."""

    class Slow(FakeSource):
        def take(self, budget: int, news: News) -> tuple[int, bool]:
            return super().take(budget, news) if self.waiting else (0, True)

    source = Slow()
    feeds.get("f").add(1, source)
    # No timer: a loop that is always busy here reaches none.
    asyncio.get_running_loop().call_soon(source.put, "late")

    assert [(1, ["late"])] == await anext(stream)


async def test_a_busy_feed_gathers_between_two_responses(stream: Any, feed: Feed[News]) -> None:
    """After a response for many subscriptions, the next one carries more than the first news."""
    sources = [FakeSource("a") for _ in range(20)]
    for number, source in enumerate(sources, 1):
        feed.add(number, source)
    assert len(await anext(stream)) == 20

    following = asyncio.ensure_future(anext(stream))
    for number, source in enumerate(sources[:3], 1):
        source.put("b")
        feed.mark(number)
        # A feed that does not gather would have answered the first mark by now.
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    assert await following == [(1, ["b"]), (2, ["b"]), (3, ["b"])]
