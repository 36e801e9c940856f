"""What the tests of the chassis share, most of all a feed, its server and a link to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from services.chassis.feed_link import FeedLink
from services.chassis.tasks import Tasks
from tests.unit.chassis.followed import FeedService, History, link_to
from tests.unit.chassis.service import Running, peer_of
from tests.unit.jumping import Factories, loops

WITHOUT_SOCKETS = {
    "test_backoff",
    "test_feed",
    "test_feed_heartbeat",
    "test_feed_link_beats",
    "test_pool",
    "test_silence",
    "test_stopping",
}
"""Where how long something takes is what it waits, whatever the machine does."""


def pytest_asyncio_loop_factories(item: pytest.Item) -> Factories:
    """Let the time of tests jump that have nothing but their own loop to wait for."""
    return loops(jumping=item.path.stem in WITHOUT_SOCKETS)


@pytest.fixture
def history() -> History:
    """What is followed."""
    return History()


@pytest.fixture
def service(history: History) -> FeedService:
    """The serving side."""
    return FeedService(history)


@pytest.fixture
async def server(service: FeedService) -> AsyncIterator[Running]:
    """Its server."""
    async with service.serving() as server:
        yield server


@pytest.fixture
async def link(server: Running) -> AsyncIterator[FeedLink[Any]]:
    """A link to the server."""
    async with peer_of(server.target) as peer, Tasks() as tasks:
        yield link_to(peer, tasks)
