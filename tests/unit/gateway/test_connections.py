"""Tests of `services.gateway.connections`."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
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
        self.due: tuple[float, Callable[[], None]] | None = None

    def call_later(self, delay: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        """Keep the only timer, for `run`."""
        self.due = (self.now + delay, callback)
        return asyncio.get_running_loop().call_later(0, lambda: None)

    def run(self, until: float) -> None:
        """Let time pass, the timer with it."""
        while self.due is not None and self.due[0] <= until:
            self.now, callback = self.due
            callback()
        self.now = until

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
        self.ticks: list[float] = []

    def tick(self, now: float) -> None:
        """See `Connection`."""
        self.ticks.append(now)

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


async def test_a_second_work_for_all_is_spread_over_the_second() -> None:
    """Done at once for a thousand connections it would hold up what streams."""
    loop = FakeLoop()
    fakes = [FakeConnection(f"users/u{number}") for number in range(30)]
    async with Connections(loop=cast("asyncio.AbstractEventLoop", loop)) as connections:
        for fake in fakes:
            connections.add(cast("Connection", fake))
        loop.run(1.05)
        before = [len(fake.ticks) for fake in fakes]
        loop.run(3.05)

    assert [2] * 30 == [len(fake.ticks) - seen for fake, seen in zip(fakes, before, strict=True)]
    assert 3 == max(Counter(time for fake in fakes for time in fake.ticks).values())
