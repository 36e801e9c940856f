"""The door of `ExecutionFeedService`: many executions followed on one stream.

Does not know what the updates say.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import grpc

from moorline.executor.v1 import feed_pb2, feed_pb2_grpc
from services.chassis.identity import caller
from services.executor import following, names
from services.executor.executions import Executions
from services.executor.executions_api import check_after
from services.executor.following import ExecutionFeeds

Context = grpc.aio.ServicerContext[Any, Any]


def response() -> feed_pb2.OpenFeedResponse:
    """Return a response of a feed that carries nothing yet.

    It tells our time in any case: a clock that steps while there is always news must
    not be believed until there is none.
    """
    made = feed_pb2.OpenFeedResponse()
    now = time.time_ns()
    made.time.seconds, made.time.nanos = now // 10**9, now % 10**9
    return made


class ExecutionFeedApi(feed_pb2_grpc.ExecutionFeedServiceServicer):
    """Serves `ExecutionFeedService`.

    Args:
        feeds: The open feeds.
        executions: All executions.
    """

    def __init__(self, *, feeds: ExecutionFeeds, executions: Executions) -> None:
        self._feeds = feeds
        self._executions = executions

    def OpenFeed(
        self, request: feed_pb2.OpenFeedRequest, context: Context
    ) -> AsyncIterator[feed_pb2.OpenFeedResponse]:
        """Open a feed."""
        return self._feeds.open(request.feed_id, caller().user)

    async def Subscribe(
        self, request: feed_pb2.SubscribeRequest, context: Context
    ) -> feed_pb2.SubscribeResponse:
        """Add an execution to a feed."""
        feed = self._feeds.get(request.feed_id)
        execution_id = names.execution_of(request.watch.name, field="watch.name")
        after = check_after(request.watch.after_sequence, field="watch.after_sequence")
        book = self._executions.get(execution_id).book
        following.add(feed, request.subscription, book, after=after)
        return feed_pb2.SubscribeResponse()

    async def Unsubscribe(
        self, request: feed_pb2.UnsubscribeRequest, context: Context
    ) -> feed_pb2.UnsubscribeResponse:
        """Take an execution off a feed."""
        self._feeds.get(request.feed_id).remove(request.subscription)
        return feed_pb2.UnsubscribeResponse()
