"""The door of `SessionFeedService`: puts sources on a gateway's feed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Any, TypeAlias

import grpc

from moorline.errors.v1 import errors_pb2
from moorline.session.v1 import events_pb2, feed_pb2, feed_pb2_grpc
from services.chassis.failures import Failure, field_invalid
from services.chassis.feed import Feed, Feeds
from services.chassis.identity import caller
from services.session.agent_source import AgentSource
from services.session.checks import check_sequence
from services.session.clock import DatabaseClock
from services.session.encoding import timestamp
from services.session.forms import FeedAgents, FeedEvents
from services.session.names import parse_agent, parse_user, require_owner
from services.session.sessions import Sessions

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
SessionFeeds: TypeAlias = Feeds[feed_pb2.SubscribedUpdates, feed_pb2.OpenFeedResponse]


def open_feeds(clock: DatabaseClock) -> SessionFeeds:
    """Return the feeds of a server, none so far.

    Args:
        clock: Its time is in responses that carry nothing.
    """

    def empty() -> feed_pb2.OpenFeedResponse:
        return feed_pb2.OpenFeedResponse(time=timestamp(clock.now()))

    return Feeds(response=feed_pb2.OpenFeedResponse, empty=empty)


class FeedApi(feed_pb2_grpc.SessionFeedServiceServicer):
    """Opens feeds, and adds and removes subscriptions."""

    def __init__(self, *, sessions: Sessions, feeds: SessionFeeds) -> None:
        self._sessions = sessions
        self._feeds = feeds
        self._events = {json: FeedEvents(json=json) for json in (True, False)}
        self._agents = {json: FeedAgents(json=json) for json in (True, False)}

    async def OpenFeed(
        self, request: feed_pb2.OpenFeedRequest, context: Context
    ) -> AsyncIterator[feed_pb2.OpenFeedResponse]:
        """Open a feed; see `feed.proto`."""
        owner = caller().user
        if not owner.startswith("services/"):
            rule = "Only a service may open a feed."
            raise Failure(errors_pb2.ERROR_REASON_FORBIDDEN, rule, rule=rule)
        async for response in self._feeds.open(request.feed_id, owner):
            yield response

    async def Subscribe(
        self, request: feed_pb2.SubscribeRequest, context: Context
    ) -> feed_pb2.SubscribeResponse:
        """Add a subscription; see `feed.proto`."""
        if request.encoding not in (feed_pb2.ENCODING_JSON, feed_pb2.ENCODING_PROTOBUF):
            raise field_invalid("encoding", "be a known encoding")
        json = request.encoding == feed_pb2.ENCODING_JSON
        match request.WhichOneof("watch"):
            case "watch_events":
                await self._watch_events(request, json=json)
            case "watch_agents":
                await self._watch_agents(request, json=json)
            case _:
                raise field_invalid("watch", "be set")
        return feed_pb2.SubscribeResponse()

    async def Unsubscribe(
        self, request: feed_pb2.UnsubscribeRequest, context: Context
    ) -> feed_pb2.UnsubscribeResponse:
        """Take a subscription off; see `feed.proto`."""
        self._feeds.get(request.feed_id).remove(request.subscription)
        return feed_pb2.UnsubscribeResponse()

    async def _watch_events(self, request: feed_pb2.SubscribeRequest, *, json: bool) -> None:
        watch: events_pb2.WatchEventsRequest = request.watch_events
        name = parse_agent("watch_events.parent", watch.parent)
        check_sequence("watch_events.after_sequence", watch.after_sequence)
        require_owner(name, caller())
        feed: Feed[feed_pb2.SubscribedUpdates] = self._feeds.get(request.feed_id)

        agent = await self._sessions.agent(name, known=watch.after_sequence, log_id=watch.log_id)
        source = agent.follow(
            form=self._events[json],
            after_sequence=watch.after_sequence,
            log_id=watch.log_id,
            include_deltas=watch.include_deltas,
            mark=partial(feed.mark, request.subscription),
        )
        feed.add(request.subscription, source)

    async def _watch_agents(self, request: feed_pb2.SubscribeRequest, *, json: bool) -> None:
        user = parse_user("watch_agents.parent", request.watch_agents.parent)
        require_owner(user, caller())
        feed: Feed[feed_pb2.SubscribedUpdates] = self._feeds.get(request.feed_id)
        session = await self._sessions.session(user.user)
        source = AgentSource(
            agents=session.roster,
            form=self._agents[json],
            mark=partial(feed.mark, request.subscription),
        )
        feed.add(request.subscription, source)
