"""Tests of `services.session.feed_api`: many subscriptions on a gateway's one stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import pytest
from google.protobuf.message import Message

from moorline.session.v1 import agents_pb2, events_pb2, feed_pb2
from services.chassis.failures import Failure
from services.chassis.identity import act_as
from tests.unit.session.fakes import FakeExecutor
from tests.unit.session.service import AGENT, CONTEXT, GATEWAY, Service, until


def _subscribe(service: Service, **request: Any) -> Awaitable[Message]:
    return service.feed.Subscribe(
        feed_pb2.SubscribeRequest(feed_id="f", subscription=1, **request), CONTEXT
    )


class Feed:
    """A gateway's open feed, read into a list."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.news: list[feed_pb2.SubscribedUpdates] = []
        self.failure: Failure | None = None
        self.task = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        act_as(GATEWAY)
        request = feed_pb2.OpenFeedRequest(feed_id="f")
        try:
            async for response in self.service.feed.OpenFeed(request, CONTEXT):
                self.news += response.subscriptions
        except Failure as failure:
            self.failure = failure

    def kinds(self, subscription: int) -> list[str | None]:
        """Return the kinds of a subscription's updates so far."""
        return [
            update.WhichOneof("update")
            for news in self.news
            if news.subscription == subscription
            for update in news.updates
        ]


@pytest.fixture
async def feed(service: Service) -> AsyncIterator[Feed]:
    """An open feed."""
    feed = Feed(service)
    await until(lambda: len(service.feeds) == 1)
    yield feed
    feed.task.cancel()
    await asyncio.gather(feed.task, return_exceptions=True)


class TestFeed:
    async def test_events_and_agents_come_on_one_stream(
        self, service: Service, executor: FakeExecutor, feed: Feed
    ) -> None:
        """Each under its number, in its encoding."""
        watch = events_pb2.WatchEventsRequest(parent=AGENT, include_deltas=True)
        for number, encoding in ((1, feed_pb2.ENCODING_JSON), (2, feed_pb2.ENCODING_PROTOBUF)):
            await service.feed.Subscribe(
                feed_pb2.SubscribeRequest(
                    feed_id="f", subscription=number, encoding=encoding, watch_events=watch
                ),
                CONTEXT,
            )
        await service.feed.Subscribe(
            feed_pb2.SubscribeRequest(
                feed_id="f",
                subscription=3,
                watch_agents=agents_pb2.WatchAgentsRequest(parent="users/ada"),
                encoding=feed_pb2.ENCODING_JSON,
            ),
            CONTEXT,
        )
        await service.create_turn()
        execution = await executor.execution()
        execution.say("b1", "text")
        await until(lambda: "delta" in feed.kinds(1) and "delta" in feed.kinds(2))
        execution.end()
        await until(lambda: feed.kinds(1).count("event") == feed.kinds(2).count("event") == 2)

        assert ["checkpoint", "event", "delta", "event"] == feed.kinds(1) == feed.kinds(2)
        assert ["agent", "agents_checkpoint"] == feed.kinds(3)[:2]

        await service.agents.DeleteAgent(agents_pb2.DeleteAgentRequest(name=AGENT), CONTEXT)
        await until(lambda: sum(news.HasField("end") for news in feed.news) == 2)
        assert {1, 2} == {news.subscription for news in feed.news if news.HasField("end")}

    async def test_unsubscribing_stops_it(self, service: Service, feed: Feed) -> None:
        """And may be repeated."""
        await _subscribe(
            service,
            encoding=feed_pb2.ENCODING_JSON,
            watch_events=events_pb2.WatchEventsRequest(parent=AGENT),
        )
        await until(lambda: bool(feed.kinds(1)))
        agent = await service.live()

        for _ in range(2):
            await service.feed.Unsubscribe(
                feed_pb2.UnsubscribeRequest(feed_id="f", subscription=1), CONTEXT
            )

        assert not agent.timeline.followed

    async def test_a_feed_that_is_not_open_is_unknown(self, service: Service) -> None:
        """The gateway must open it again."""
        with pytest.raises(Failure) as raised:
            await _subscribe(
                service,
                encoding=feed_pb2.ENCODING_JSON,
                watch_events=events_pb2.WatchEventsRequest(parent=AGENT),
            )

        assert "FEED_UNKNOWN" == raised.value.reason_name

    async def test_users_may_not_open_one(self, service: Service) -> None:
        """A feed carries many users' updates; only services do that."""
        stream = service.feed.OpenFeed(feed_pb2.OpenFeedRequest(feed_id="f"), CONTEXT)

        with pytest.raises(Failure) as raised:
            await anext(stream)

        assert "FORBIDDEN" == raised.value.reason_name

    async def test_it_ends_at_a_drain(self, service: Service, feed: Feed) -> None:
        """With DRAINING."""
        await service.feeds.drain()

        await until(lambda: feed.failure is not None)
        assert feed.failure is not None
        assert "DRAINING" == feed.failure.reason_name
