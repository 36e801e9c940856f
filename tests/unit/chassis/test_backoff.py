"""Tests of `services.chassis.backoff`: pauses that grow, up to a second."""

from __future__ import annotations

import asyncio

from services.chassis.backoff import Backoff


async def test_pauses_grow_up_to_a_second() -> None:
    """What fails for long is not tried more often than once in half a second."""
    backoff = Backoff()
    most = []
    backoff.seconds = 0.001
    for _ in range(3):
        most.append(backoff.seconds)
        await backoff.pause()
    assert [0.001, 0.002, 0.004] == most

    backoff.seconds = 0.9
    await backoff.pause()

    assert 1.0 == backoff.seconds


async def test_a_pause_takes_at_least_half_its_time() -> None:
    """Whoever tries again at once makes an outage worse."""
    loop = asyncio.get_running_loop()
    start = loop.time()

    await Backoff().pause()

    assert 0.024 < loop.time() - start


async def test_after_a_success_it_begins_anew() -> None:
    """The next failure has nothing to do with those before."""
    backoff = Backoff()
    await backoff.pause()

    backoff.reset()

    assert 0.05 == backoff.seconds
