"""What is followed, and the watches that read it.

Does not know the link that brings it, nor when anything is sent.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol

from services.chassis.failures import Failure
from services.chassis.feed_link import Subscription
from services.gateway.agent_streams import AgentStream
from services.gateway.encoding import Encoding
from services.gateway.stalls import Outlet
from services.gateway.streams import EventReader, EventStream, Reader
from services.gateway.upstream import Update


class Client(Outlet, Protocol):
    """A connection, as delivery sees it."""

    @property
    def encoding(self) -> Encoding:
        """The encoding of its frames."""

    def send(self, payload: bytes) -> None:
        """Send a frame; never waits."""

    def watch_ended(self, id: int, failure: Failure) -> None:  # noqa: A002
        """Called once when a watch is over by itself, after its last frame."""


@dataclass(frozen=True, slots=True)
class Key:
    """What is shared: never between two users."""

    user: str
    parent: str
    encoding: Encoding


class Source:
    """One upstream subscription, its stream, and the watches that read it.

    Attributes:
        siblings: All sources of its key, the oldest first.
    """

    __slots__ = (
        "follower", "key", "paused", "siblings", "stream", "subscribing", "subscription", "watches",
    )  # fmt: skip

    def __init__(self, key: Key, stream: EventStream | AgentStream, siblings: list[Source]) -> None:
        self.key = key
        self.stream = stream
        self.siblings = siblings
        self.watches: dict[Watch, None] = {}
        # What the link calls for the present subscription; others are ignored.
        self.follower: object | None = None
        self.subscription: Subscription[Update] | None = None
        self.subscribing: asyncio.Task[None] | None = None
        # True while upstream waits, because no reader takes what comes.
        self.paused = False

    def trim(self, stream: EventStream, *, held: int, ring: int) -> bool:
        """Hold little more of the stream than its readers are about to take.

        One that waits for its client counts only among others that do: it falls out,
        and begins a stream of its own when it can. When it was last looked at,
        none of the others had seen what has just come, so that it is no lag.

        Args:
            stream: The source's.
            held: Bytes for who may join, or for who waits when all do.
            ring: Bytes for readers that are behind.

        Returns:
            False when all wait. What is given up then must be asked for again.
        """
        waiting: list[int] = []
        reading: list[int] = []
        for watch in self.watches:
            if isinstance(watch.reader, EventReader):
                (waiting if watch.waiting else reading).append(watch.reader.sequence)
        if reading or not waiting:
            base = min(stream.base_within(held), *reading)
            # Never what the one that is furthest still needs, or nobody would get on.
            bound = min(stream.base_within(ring), max(reading, default=stream.head))
            stream.drop(max(base, bound))
            return True
        stream.drop(min(waiting))
        stream.give_back(max(waiting), held)
        return False


class Watch:
    """One stream of one connection. Made by `Delivery.watch`."""

    __slots__ = ("client", "id", "marked", "opening", "reader", "source", "waiting")

    def __init__(
        self,
        client: Client,
        id: int,  # noqa: A002
        opening: bytes,
        source: Source,
        reader: Reader,
    ) -> None:
        self.client = client
        self.id = id
        self.opening = opening
        self.reader = reader
        self.source: Source | None = source  # None once it is over
        self.marked = False
        # True while it has news that the client's connection does not take.
        self.waiting = False
