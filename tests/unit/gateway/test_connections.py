"""Tests of `services.gateway.connections`."""

from __future__ import annotations

import asyncio
from typing import cast

from services.gateway.auth.verifier import Principal
from services.gateway.closing import CloseCode
from services.gateway.connection import Connection
from services.gateway.connections import STAY_SECONDS, Connections
from tests.unit.gateway.fakes import settle


class FakeLoop:
    """The running loop, but for the time, which a test moves on."""

    def __init__(self) -> None:
        self.now = 0.0

    def time(self) -> float:
        """Return its time."""
        return self.now

    def call_soon(self, callback: object, *args: object) -> None:
        """Call it in the running loop."""
        asyncio.get_running_loop().call_soon(callback, *args)  # type: ignore[arg-type]


class FakeConnection:
    """Notes how it was closed."""

    def __init__(self, user: str) -> None:
        self.principal = Principal(user=user)
        self.closed_with: list[int] = []

    def close(self, code: int, reason: str) -> None:
        """See `Connection`."""
        assert reason
        self.closed_with.append(code)


async def test_who_is_better_served_elsewhere_is_sent_there() -> None:
    """But not who has only just come, or they would come and go without end."""
    loop = FakeLoop()
    connections = Connections(loop=cast("asyncio.AbstractEventLoop", loop))
    ada, bob = FakeConnection("users/ada"), FakeConnection("users/bob")
    new = FakeConnection("users/ada")
    connections.add(cast("Connection", ada))
    connections.add(cast("Connection", bob))
    loop.now += STAY_SECONDS
    connections.add(cast("Connection", new))

    connections.send_away("users/ada")
    connections.send_away("users/nobody")
    await settle()

    assert [CloseCode.SERVICE_RESTART] == ada.closed_with
    assert [] == bob.closed_with == new.closed_with
