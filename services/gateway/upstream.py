"""The feed of a pod of the session service, as the gateway opens it.

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

GATEWAY = Identity(user="services/gateway")
"""Whom the gateway calls for when it is for nobody in particular."""
PASSING = frozenset(
    {
        errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE,
        errors_pb2.ERROR_REASON_SESSION_CAPACITY,
        errors_pb2.ERROR_REASON_STORE_UNAVAILABLE,
        errors_pb2.ERROR_REASON_DRAINING,
        errors_pb2.ERROR_REASON_NOT_OWNER,
        errors_pb2.ERROR_REASON_FEED_UNKNOWN,
        errors_pb2.ERROR_REASON_CALL_TIMEOUT,
        errors_pb2.ERROR_REASON_FENCED,
    }
)
"""Reasons that pass by themselves, or are none at another pod."""

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


def open_link(session: Peer, tasks: Tasks, on_time: Callable[[float], None]) -> FeedLink[Update]:
    """Open the feed, and keep it open until the link is closed.

    When it breaks its subscriptions end: who follows is followed elsewhere by then.

    Args:
        session: The open peer.
        tasks: Owns what keeps it open.
        on_time: Called for every response, with the platform's time in seconds
            since the epoch, or 0 when it does not tell.
    """

    def split(
        response: feed_pb2.OpenFeedResponse,
    ) -> list[tuple[int, Sequence[Update], errors_pb2.Error | None]]:
        on_time(response.time.ToNanoseconds() / 1e9 if response.HasField("time") else 0.0)
        return [
            (item.subscription, item.updates, item.end if item.HasField("end") else None)
            for item in response.subscriptions
        ]

    return FeedLink(
        peer=session,
        open_method=_SERVICE + "OpenFeed",
        open_request=_open_request,
        open_response=feed_pb2.OpenFeedResponse,
        subscribe_method=_SERVICE + "Subscribe",
        unsubscribe_method=_SERVICE + "Unsubscribe",
        split=split,
        tasks=tasks,
        identity=GATEWAY,
        lasting=False,
    )


def _open_request(feed_id: str) -> Message:
    return feed_pb2.OpenFeedRequest(feed_id=feed_id)
