"""The three calls of a feed, built from the names of its methods.

Does not know what is followed, or when to call.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from datetime import timedelta
from typing import Any, Generic, TypeVar

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.message import Message

from services.chassis.client import Peer
from services.chassis.failures import Failure
from services.chassis.identity import Identity

U = TypeVar("U")

_TIMEOUT = timedelta(seconds=10)


class Subscription(Generic[U]):
    """One thing followed over a link; made by `FeedLink.subscribe`."""

    __slots__ = ("identity", "number", "on_end", "on_reset", "on_updates", "open", "request")

    def __init__(
        self,
        *,
        identity: Identity,
        request: Callable[[str, int], Message],
        on_updates: Callable[[Sequence[U]], None],
        on_end: Callable[[Failure], None],
        on_reset: Callable[[], None],
    ) -> None:
        self.identity = identity
        self.request = request
        self.on_updates = on_updates
        self.on_end = on_end
        self.on_reset = on_reset
        self.number = 0
        self.open = True


class FeedCalls:
    """Calls the methods of a feed; see `FeedLink` for the arguments."""

    def __init__(
        self,
        *,
        peer: Peer,
        open_method: str,
        open_request: Callable[[str], Message],
        open_response: type[Message],
        subscribe_method: str,
        unsubscribe_method: str,
        identity: Identity,
    ) -> None:
        self._peer = peer
        self._open_method = open_method
        self._open_request = open_request
        self._open_response = open_response
        self._subscribe_method = subscribe_method
        self._subscribed = _messages(subscribe_method)[1]
        self._unsubscribe_method = unsubscribe_method
        self._unsubscribe_request, self._unsubscribed = _messages(unsubscribe_method)
        self._identity = identity

    def open(self, feed_id: str) -> AsyncGenerator[Message, None]:
        """Open a feed, and yield its responses."""
        return self._peer.stream(
            self._open_method,
            self._open_request(feed_id),
            self._open_response,
            identity=self._identity,
        )

    async def subscribe(self, subscription: Subscription[Any], feed_id: str) -> None:
        """Put a subscription on a feed, under its number."""
        await self._peer.call(
            self._subscribe_method,
            subscription.request(feed_id, subscription.number),
            self._subscribed,
            identity=subscription.identity,
            timeout=_TIMEOUT,
        )

    async def unsubscribe(self, identity: Identity, feed_id: str, number: int) -> None:
        """Take a number off a feed."""
        request: Any = self._unsubscribe_request
        await self._peer.call(
            self._unsubscribe_method,
            request(feed_id=feed_id, subscription=number),
            self._unsubscribed,
            identity=identity,
            timeout=_TIMEOUT,
        )


def _messages(method: str) -> tuple[type[Message], type[Message]]:
    """Return the request and the response class of a method's full name."""
    pool: Any = descriptor_pool.Default()
    found = pool.FindMethodByName(method.removeprefix("/").replace("/", "."))
    return (
        message_factory.GetMessageClass(found.input_type),
        message_factory.GetMessageClass(found.output_type),
    )
