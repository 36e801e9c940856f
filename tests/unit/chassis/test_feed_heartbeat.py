"""Tests of `services.chassis.feed`: a feed that has nothing to say still lives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import timedelta
from typing import Any

import pytest

from services.chassis.feed import HEARTBEAT_SECONDS, Feeds
from tests.unit.chassis.service import stand_still
from tests.unit.chassis.test_feed import OWNER, FakeSource, News, Response, shown

BEAT = 0.1


@pytest.fixture
def feeds() -> Feeds[News, Response]:
    """The feeds of a server, whose hearts beat fast."""
    return Feeds(response=Response, empty=Response, heartbeat=timedelta(seconds=BEAT))


@pytest.fixture
async def stream(feeds: Feeds[News, Response]) -> AsyncIterator[Any]:
    """The stream of an open feed `f`."""
    stream: Any = shown(feeds.open("f", OWNER))
    async with aclosing(stream):
        assert await anext(stream) == []
        yield stream


def now() -> float:
    """Return the loop's time."""
    return asyncio.get_running_loop().time()


async def test_a_silent_feed_beats(stream: Any) -> None:
    """Empty responses come as long as nothing else does, each after the time of silence."""
    for _ in range(3):
        start = now()
        assert await anext(stream) == []
        assert now() - start == pytest.approx(BEAT)


async def test_a_feed_that_talks_does_not_beat(stream: Any, feeds: Feeds[News, Response]) -> None:
    """The silence is counted from the last response."""
    feed, source, end = feeds.get("f"), FakeSource(), now() + 3 * BEAT
    feed.add(1, source)
    while now() < end:
        source.put("a")
        feed.mark(1)
        assert await anext(stream) == [(1, ["a"])]
        await asyncio.sleep(BEAT / 10)

    assert await anext(stream) == []


async def test_a_beat_disturbs_no_update(stream: Any, feeds: Feeds[News, Response]) -> None:
    """An update that is marked when the heart would beat takes the beat's place."""
    feed, source = feeds.get("f"), FakeSource()
    feed.add(1, source)
    # The stream is suspended at its `yield`, as it is during a slow write.
    await asyncio.sleep(2 * BEAT)
    source.put("a")
    feed.mark(1)

    assert await anext(stream) == [(1, ["a"])]
    source.put("b")
    feed.mark(1)
    assert await anext(stream) == [(1, ["b"])]


async def test_a_source_that_gives_nothing_does_not_silence_the_feed(
    stream: Any, feeds: Feeds[News, Response]
) -> None:
    """It says that more is waiting, for ever, and the heart beats all the same."""

    class Slow(FakeSource):
        def take(self, budget: int, news: News) -> tuple[int, bool]:
            stand_still(BEAT / 10)
            return 0, True

    start = now()
    feeds.get("f").add(1, Slow())

    assert await anext(stream) == []
    assert BEAT <= now() - start < 2 * BEAT


async def test_a_closed_feed_leaves_no_timer(stream: Any, feeds: Feeds[News, Response]) -> None:
    """Whether it was waiting or not, and when it was opened again."""
    first = feeds.get("f")
    waiting = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    again: Any = shown(feeds.open("f", OWNER))
    async with aclosing(again):
        assert await anext(again) == []
        await asyncio.wait([waiting])
        second = feeds.get("f")
        assert await anext(again) == []

    for feed in (first, second):
        assert feed._timer is not None
        assert feed._timer.cancelled()


async def test_a_feed_closed_before_its_first_beat_makes_no_timer(
    stream: Any, feeds: Feeds[News, Response]
) -> None:
    """It was opened again while its first response was being written."""
    first = feeds.get("f")
    again: Any = shown(feeds.open("f", OWNER))
    async with aclosing(again):
        assert await anext(again) == []
        with pytest.raises(Exception, match="opened again"):
            await anext(stream)

    assert first._timer is None


def test_silence_is_short_enough_to_be_told_from_death() -> None:
    """What everybody waits for is what the contract says."""
    feeds: Feeds[News, Response] = Feeds(response=Response, empty=Response)

    assert HEARTBEAT_SECONDS == 3
    assert feeds._heartbeat_seconds == HEARTBEAT_SECONDS
