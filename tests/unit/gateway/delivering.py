"""A delivery whose link a test speaks for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from moorline.errors.v1 import errors_pb2
from moorline.session.v1 import events_pb2
from services.chassis.failures import Failure
from services.chassis.metrics import Metrics
from services.chassis.tasks import Tasks
from services.gateway.delivery import Delivery
from services.gateway.stalls import Stalls
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

    def __init__(self, tasks: Tasks, ring: int) -> None:
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
            retry_seconds=0.001,
        )

    async def watch(
        self, client: FakeClient, *, after: int = 0, deltas: bool = True, user: str = "users/ada"
    ) -> Watch:
        """Watch the agent's events."""
        request = events_pb2.WatchEventsRequest(
            parent=AGENT, after_sequence=after, include_deltas=deltas
        )
        watch = self.delivery.watch(client, 7, request, user=user)
        await settle()
        return watch

    async def push(self, *updates: Any, to: int = -1) -> None:
        """Bring updates and let them through."""
        self.link.push(*updates, to=to)
        await settle()


@asynccontextmanager
async def setting(ring: int = 1 << 20) -> AsyncIterator[Setting]:
    """Yield a delivery; its tasks end with it."""
    async with Tasks() as tasks:
        yield Setting(tasks, ring)


def unavailable() -> Failure:
    """A failure that passes."""
    return Failure(errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE, "gone")


def sequences(updates: list[Any]) -> list[int]:
    """The numbers of the events among updates."""
    return [update["event"]["sequence"] for update in updates if "event" in update]
