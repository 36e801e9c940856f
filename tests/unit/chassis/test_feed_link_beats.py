"""Tests of `services.chassis.feed_link`: a feed that says nothing else than that it lives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import timedelta
from typing import Any

import pytest

from services.chassis.feed import HEARTBEAT_SECONDS
from services.chassis.feed_link import SILENCE_SECONDS
from services.chassis.identity import Identity, act_as
from services.chassis.tasks import Tasks
from tests.unit.chassis.followed import FeedService, History, link_to
from tests.unit.chassis.service import until


class Beside:
    """A peer in this very loop: the stream of its feed needs no connection."""

    service = "test"
    target = "beside"

    def __init__(self, served: FeedService) -> None:
        self._served = served

    async def stream(
        self, method: str, request: Any, response: Any, *, identity: Identity
    ) -> AsyncIterator[Any]:
        """See `Peer.stream`."""
        act_as(identity)
        responses: Any = self._served.OpenFeed(request, None)
        async with aclosing(responses):
            async for each in responses:
                yield each


def beating(seconds: float) -> tuple[FeedService, Any]:
    """Return a service whose feed beats so often, and a peer that is it."""
    service = FeedService(History(), heartbeat=timedelta(seconds=seconds))
    return service, Beside(service)


async def test_a_feed_that_beats_is_not_broken() -> None:
    """However long it has no news."""
    service, peer = beating(HEARTBEAT_SECONDS)
    async with Tasks() as tasks:
        link = link_to(peer, tasks)
        await until(lambda: link.connected)

        await asyncio.sleep(100 * SILENCE_SECONDS)

        assert link.connected
        assert len(service.feed_ids) == 1


async def test_a_feed_that_beats_too_rarely_is_broken() -> None:
    """As soon as the silence is over, and not before."""
    _, peer = beating(1.1 * SILENCE_SECONDS)
    async with Tasks() as tasks:
        link = link_to(peer, tasks)
        await until(lambda: link.connected)
        opened = asyncio.get_running_loop().time()

        await until(lambda: not link.connected)

        assert link.disconnected_since == pytest.approx(opened + SILENCE_SECONDS, abs=0.01)
