"""Tests of `services.executor.channels.simulation.ticker`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from services.executor.channels.simulation.ticker import Ticker, tick_at
from tests.unit.executor.fakes import until


class Sleeper:
    """Remembers when it was woken, and may do something then."""

    def __init__(self, woken: list[Any], *, then: Callable[[], Any] = lambda: None) -> None:
        self._woken = woken
        self._then = then

    def woken(self, tick: int) -> None:
        """See `ticker.Sleeper`."""
        assert tick <= now()
        self._woken.append(self)
        self._then()


def now() -> int:
    """Return the tick of this moment."""
    return tick_at(asyncio.get_running_loop().time())


async def test_sleepers_are_woken_in_the_order_of_their_ticks() -> None:
    """Whatever the order in which they went to sleep, and never too early."""
    ticker, woken, times, start = Ticker(), list[Sleeper](), list[int](), now()
    late, early, middle, other = (
        Sleeper(woken, then=lambda: times.append(now())) for _ in range(4)
    )
    for sleeper, after in ((late, 30), (early, 5), (middle, 15), (other, 15)):
        ticker.wake(sleeper, start + after)
    await until(lambda: len(woken) == 4)

    assert early is woken[0]
    assert {middle, other} == set(woken[1:3])
    assert late is woken[3]
    assert all(start + after <= at for after, at in zip((5, 15, 15, 30), times, strict=True))


async def test_sleeper_may_sleep_on() -> None:
    """It is woken again, once for each time it asked."""
    ticker, woken = Ticker(), list[Sleeper]()

    def again() -> None:
        if len(woken) < 3:
            ticker.wake(sleeper, now() + 2)

    sleeper = Sleeper(woken, then=again)
    ticker.wake(sleeper, now() + 2)
    await until(lambda: len(woken) == 3)
    await asyncio.sleep(0.005)

    assert [sleeper] * 3 == woken


async def test_forgotten_sleeper_is_not_woken() -> None:
    """Others of the same tick are; forgetting who does not sleep changes nothing."""
    ticker, woken, tick = Ticker(), list[Sleeper](), now() + 5
    gone, there = Sleeper(woken), Sleeper(woken)
    ticker.wake(gone, tick)
    ticker.wake(there, tick)
    ticker.forget(gone, tick)
    ticker.forget(gone, tick)
    ticker.forget(gone, tick + 1)
    await until(lambda: woken)

    assert [there] == woken


async def test_one_that_fails_holds_up_nobody() -> None:
    """The event loop hears of it, and the others are woken."""
    ticker, woken, heard, tick = Ticker(), list[Sleeper](), list[Any](), now() + 5

    def fail() -> None:
        raise ZeroDivisionError

    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: heard.append(context["exception"]))
    try:
        for then in (lambda: None, fail, lambda: None):
            ticker.wake(Sleeper(woken, then=then), tick)
        ticker.wake(Sleeper(woken), tick + 5)
        await until(lambda: len(woken) == 4)
    finally:
        loop.set_exception_handler(None)

    assert [ZeroDivisionError] == list(map(type, heard))
