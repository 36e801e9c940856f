"""Tests of `services.gateway.stalls`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from services.gateway.stalls import PATIENCE, PERIOD, Stalls
from tests.unit.gateway.fakes import FakeClient, until


class FakeLoop:
    """Runs a timer when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timer: Callable[[], None] | None = None

    def time(self) -> float:
        """Return the time."""
        return self.now

    def call_later(self, delay: float, callback: Callable[[], None]) -> Any:
        """Set the timer."""
        assert PERIOD == delay
        self.timer = callback
        return object()

    def pass_time(self, seconds: float) -> None:
        """Let the timer run over and over."""
        end = self.now + seconds
        while self.now < end and self.timer is not None:
            self.now += PERIOD
            timer, self.timer = self.timer, None
            timer()


def stalled(unread: int = 100) -> tuple[FakeLoop, Stalls, FakeClient]:
    """A client that does not read."""
    loop: Any = FakeLoop()
    client = FakeClient()
    client.can_write, client.unread = False, unread
    stalls = Stalls(loop=loop)
    stalls.add(client)
    stalls.add(client)
    return loop, stalls, client


def test_a_client_that_reads_again_is_resumed_once() -> None:
    """And the timer stops, as nobody is left to look after."""
    loop, stalls, client = stalled()
    client.can_write = True
    loop.pass_time(1)

    assert (1, 0) == (client.resumes, client.gave_up)
    assert (0, None) == (len(stalls), loop.timer)


def test_a_client_that_never_reads_is_given_up() -> None:
    """After the patience, not before."""
    loop, stalls, client = stalled()
    loop.pass_time(PATIENCE - 1)
    assert 0 == client.gave_up
    loop.pass_time(2)

    assert (1, 0) == (client.gave_up, len(stalls))


def test_progress_renews_the_patience() -> None:
    """Reading slowly is no reason to be cut."""
    loop, _, client = stalled(100)
    for _ in range(20):
        loop.pass_time(PATIENCE / 2)
        client.unread -= 1

    assert 0 == client.gave_up


def test_a_client_that_is_gone_is_not_looked_after() -> None:
    """Discarding twice changes nothing."""
    loop, stalls, client = stalled()
    stalls.discard(client)
    stalls.discard(client)
    loop.pass_time(PATIENCE + 1)

    assert (0, 0) == (client.gave_up, client.resumes)


async def test_the_timer_of_the_real_loop_runs() -> None:
    """The same on a real event loop."""
    client = FakeClient()
    client.can_write = False
    stalls = Stalls(loop=asyncio.get_running_loop())
    stalls.add(client)
    client.can_write = True
    await until(lambda: bool(client.resumes))

    assert 1 == client.resumes
