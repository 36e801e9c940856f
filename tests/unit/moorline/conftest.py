"""Fixtures: a scripted platform, and clients of it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

import moorline
from tests.unit.jumping import Factories, loops
from tests.unit.moorline.scripted import Gateway, scripted_gateway
from tests.unit.moorline.scripted_platform import TOKEN

WITHOUT_SOCKETS = {"test_dialling"}
"""Where how long something takes is what it waits, whatever the machine does."""


def pytest_asyncio_loop_factories(item: pytest.Item) -> Factories:
    """Let the time of tests jump that have nothing but their own loop to wait for."""
    return loops(jumping=item.path.stem in WITHOUT_SOCKETS)


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    """A platform in memory."""
    async with scripted_gateway() as gateway:
        yield gateway


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[moorline.AsyncClient]:
    """A connected client."""
    async with moorline.AsyncClient(gateway.url, TOKEN, environ={}) as client:
        yield client
