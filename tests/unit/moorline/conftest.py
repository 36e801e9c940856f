"""Fixtures: a scripted platform, and clients of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

import moorline
from tests.unit.jumping import JumpingLoop
from tests.unit.moorline.scripted import Gateway, scripted_gateway
from tests.unit.moorline.scripted_platform import TOKEN

WITHOUT_SOCKETS = {"test_dialling"}
"""Where how long something takes is what it waits, whatever the machine does."""


def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Let the time of tests jump that have nothing but their own loop to wait for."""
    if item.path.stem in WITHOUT_SOCKETS:
        return {"jumping": JumpingLoop}
    return {"asyncio": asyncio.new_event_loop}


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
