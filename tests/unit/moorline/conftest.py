"""Fixtures: a scripted platform, and clients of it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

import moorline
from tests.unit.moorline.scripted import Gateway, scripted_gateway
from tests.unit.moorline.scripted_platform import TOKEN


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
