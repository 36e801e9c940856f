"""A delivery whose link a test speaks for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from moorline.errors.v1 import errors_pb2
from moorline.session.v1 import events_pb2
from services.chassis.failures import Failure
from services.chassis.metrics import Metrics
from services.chassis.tasks import Tasks
from services.gateway.delivery import HELD_BYTES, Delivery
from services.gateway.listener import HIGH_WATER
from services.gateway.stalls import Stalls
from services.gateway.streams import EventStream
from services.gateway.watches import Watch
from tests.unit.gateway.fakes import (
    AGENT,
    FakeClient,
    FakeLink,
    settle,
)

RING = 2000


class Setting:
    """A delivery with a link that a test speaks for."""

    def __init__(self, tasks: Tasks, ring: int, held: int) -> None:
        loop = asyncio.get_running_loop()
        self.link = FakeLink()
        self.stalls = Stalls(loop=loop)
        self.metrics = Metrics(service="test")
        self.delivery = Delivery(
            link=self.link,
            stalls=self.stalls,
            tasks=tasks,
            loop=loop,
            metrics=self.metrics,
            ring_bytes=ring,
            held_bytes=held,
            retry_seconds=0.001,
        )

    async def watch(
        self,
        client: FakeClient,
        *,
        after: int = 0,
        log_id: str = "",
        deltas: bool = True,
        user: str = "users/ada",
        parent: str = AGENT,
        id: int = 7,  # noqa: A002
    ) -> Watch:
        """Watch an agent's events."""
        request = events_pb2.WatchEventsRequest(
            parent=parent, after_sequence=after, include_deltas=deltas, log_id=log_id
        )
        watch = self.delivery.watch(client, id, request, user=user)
        await settle()
        return watch

    async def push(self, *updates: Any, to: int = -1) -> None:
        """Bring updates and let them through."""
        self.link.push(*updates, to=to)
        await settle()


class Log:
    """Gives every subscription the same events, from the position it asks for.

    Args:
        link: Where the subscriptions are.
        updates: The events 1, 2, 3 and so on.
        batch: How many come at once.
    """

    def __init__(self, link: FakeLink, updates: Sequence[Any], batch: int) -> None:
        self._link = link
        self._updates = updates
        self._batch = batch
        self._given: dict[Any, int] = {}

    async def step(self) -> None:
        """Bring each its next batch."""
        for subscription in list(self._link.open):
            if subscription not in self._given:
                request: Any = subscription.request("feed", 1)
                self._given[subscription] = request.watch_events.after_sequence
            begin = self._given[subscription]
            self._given[subscription] = begin + self._batch
            subscription.on_updates(self._updates[begin : begin + self._batch])
        await settle()


class SlowClient(FakeClient):
    """Has the write buffer of a connection; reads when a test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.delivery: Any = None
        self.watches: list[Watch] = []

    def send(self, payload: bytes) -> None:
        """See `Client`."""
        super().send(payload)
        self.unread += len(payload)
        self.can_write = self.can_write and self.unread <= HIGH_WATER

    def read(self, size: int) -> None:
        """Take bytes from the buffer, and let what waits go on when it is nearly empty."""
        self.unread = max(0, self.unread - size)
        if not self.can_write and self.unread <= HIGH_WATER // 4:
            self.can_write = True
            for watch in self.watches:
                self.delivery.resume(watch)


@asynccontextmanager
async def setting(ring: int = 1 << 20, held: int = HELD_BYTES) -> AsyncIterator[Setting]:
    """Yield a delivery; its tasks end with it."""
    async with Tasks() as tasks:
        yield Setting(tasks, ring, min(ring, held))


def held(watch: Watch) -> int:
    """Bytes that are held for a watch of events."""
    assert watch.source is not None
    assert isinstance(watch.source.stream, EventStream)
    return watch.source.stream.held


def unavailable() -> Failure:
    """A failure that passes."""
    return Failure(errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE, "gone")


def sequences(updates: list[Any]) -> list[int]:
    """The numbers of the events among updates."""
    return [update["event"]["sequence"] for update in updates if "event" in update]
