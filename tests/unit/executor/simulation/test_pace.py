"""Tests of `services.executor.channels.simulation.pace`."""

from __future__ import annotations

import asyncio
import time

from services.executor.channels.simulation.pace import Pace


async def test_calls_are_made_in_order_and_in_time() -> None:
    """The last one comes when the schedule says, not when the delays add up."""
    calls: list[int] = []
    started = time.monotonic()

    def slow(index: int) -> None:
        calls.append(index)
        time.sleep(0.002)

    pace = Pace(count=10, pause=0.01, step=slow, held=lambda: False)
    await pace.run()
    took = time.monotonic() - started

    assert list(range(10)) == calls
    assert pace.finished
    assert 0.088 <= took < 2


async def test_held_pace_goes_on_where_it_stopped() -> None:
    """What became due meanwhile is made up for at once."""
    calls: list[int] = []
    pace = Pace(count=5, pause=0.001, step=calls.append, held=lambda: len(calls) == 2)
    await pace.run()
    first = list(calls)
    await asyncio.sleep(0.01)
    calls.append(-1)
    await pace.run()

    assert [0, 1] == first
    assert [0, 1, -1, 2, 3, 4] == calls
    assert pace.finished


async def test_cancelled_pace_makes_no_further_call() -> None:
    """Its timer goes with it."""
    calls: list[int] = []
    pace = Pace(count=5, pause=0.05, step=calls.append, held=lambda: False)
    running = asyncio.ensure_future(pace.run())
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.sleep(0.08)

    assert running.cancelled()
    assert [0] == calls
