"""The feed of the session service, as the gateway opens it.

Does not know who reads what comes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from google.protobuf.message import Message

from moorline.errors.v1 import errors_pb2
from moorline.session.v1 import feed_pb2
from services.chassis.client import Peer
from services.chassis.failures import Failure
from services.chassis.feed_link import FeedLink, Subscription
from services.chassis.identity import Identity
from services.chassis.tasks import Tasks

Update = feed_pb2.EncodedUpdate

PASSING = frozenset(
    {
        errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE,
        errors_pb2.ERROR_REASON_DRAINING,
        errors_pb2.ERROR_REASON_FEED_UNKNOWN,
        errors_pb2.ERROR_REASON_CALL_TIMEOUT,
        errors_pb2.ERROR_REASON_STORE_UNAVAILABLE,
    }
)
"""Reasons a new subscription waits out, as `FeedLink` does for an old one."""

_SERVICE = "/moorline.session.v1.SessionFeedService/"


class Link(Protocol):
    """What brings updates; `FeedLink` does, and says more about each method."""

    async def subscribe(
        self,
        *,
        identity: Identity,
        request: Callable[[str, int], Message],
        on_updates: Callable[[Sequence[Update]], None],
        on_end: Callable[[Failure], None],
        on_reset: Callable[[], None],
    ) -> Subscription[Update]:
        """Follow something from now on, whatever breaks."""

    async def unsubscribe(self, subscription: Subscription[Update]) -> None:
        """Stop following."""


def open_link(session: Peer, tasks: Tasks) -> FeedLink[Update]:
    """Open the feed, and keep it open until the link is closed.

    Args:
        session: The open peer.
        tasks: Owns what keeps it open.
    """
    return FeedLink(
        peer=session,
        open_method=_SERVICE + "OpenFeed",
        open_request=_open_request,
        open_response=feed_pb2.OpenFeedResponse,
        subscribe_method=_SERVICE + "Subscribe",
        unsubscribe_method=_SERVICE + "Unsubscribe",
        split=_split,
        tasks=tasks,
        identity=Identity(user="services/gateway"),
    )


def _open_request(feed_id: str) -> Message:
    return feed_pb2.OpenFeedRequest(feed_id=feed_id)


def _split(
    response: feed_pb2.OpenFeedResponse,
) -> list[tuple[int, Sequence[Update], errors_pb2.Error | None]]:
    return [
        (item.subscription, item.updates, item.end if item.HasField("end") else None)
        for item in response.subscriptions
    ]
