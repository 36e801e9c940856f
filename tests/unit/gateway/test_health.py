"""Tests of what probes ask `services.gateway.web`, over HTTP."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.unit.gateway.running import Gateway, gateway


async def get(g: Gateway, path: str) -> tuple[int, Any]:
    """Status and body of a GET."""
    async with g.client.get(g.url + path) as response:
        return response.status, await response.json()


async def test_it_is_ready_with_its_session_service() -> None:
    """Without the executor people can still read, and queue turns."""
    async with gateway(database_time=1_700_000_000) as g, asyncio.timeout(15):
        assert 200 == (await get(g, "/healthz"))[0]
        body: Any = {}
        again: Any = {"status": ""}
        while "ok" != again["status"] or body != again:
            body, again = again, (await get(g, "/readyz"))[1]
        assert (True, False) == (body["session"], body["executor"])


async def test_it_is_not_ready_before_it_knows_the_time() -> None:
    """By its own clock it would refuse who is in time."""
    async with gateway() as g, asyncio.timeout(15):
        body: Any = {"session": False}
        while not body["session"]:
            status, body = await get(g, "/readyz")
            assert (503, False) == (status, body["time"])


async def test_it_is_not_ready_without() -> None:
    """But it lives."""
    async with gateway(session="127.0.0.1:1") as g:
        assert 200 == (await get(g, "/healthz"))[0]
        assert 503 == (await get(g, "/readyz"))[0]
