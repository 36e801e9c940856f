"""Tests of `services.executor.channels.simulation.pace`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from services.executor.channels.simulation.lines import LIMIT, Lines
from services.executor.channels.simulation.pace import Pace
from services.executor.channels.simulation.ticker import Ticker
from tests.unit.executor.fakes import FakeReceiver
from tests.unit.jumping import JumpingLoop


@pytest.fixture
async def lines() -> Lines:
    """Lines that somebody receives."""
    lines = Lines()
    lines.connect(FakeReceiver())
    return lines


@pytest.fixture
async def loop() -> JumpingLoop:
    """The loop of the test, whose time can be made to pass."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, JumpingLoop)
    return loop


def make_pace(lines: Lines, step: Callable[[int], Any], *, count: int, pause: float) -> Pace:
    """Return a pace that has not begun."""
    return Pace(count=count, pause=pause, step=step, lines=lines, ticker=Ticker())


async def test_calls_are_made_in_order_and_in_time(lines: Lines, loop: JumpingLoop) -> None:
    """The last one comes when the schedule says, not when the delays add up."""
    calls: list[int] = []
    started = loop.time()

    def slow(index: int) -> None:
        calls.append(index)
        loop.jump(0.002)

    pace = make_pace(lines, slow, count=10, pause=0.01)
    await pace.run()
    took = loop.time() - started

    assert list(range(10)) == calls
    assert pace.finished
    assert pytest.approx(0.092) == took


async def test_held_pace_goes_on_where_it_stopped(lines: Lines) -> None:
    """What became due meanwhile is made up for at once."""
    calls: list[int] = []

    def print_much(index: int) -> None:
        calls.append(index)
        for _ in range(LIMIT // 2):
            lines.add(b"x")

    pace = make_pace(lines, print_much, count=4, pause=0.001)
    lines.hold()
    await pace.run()
    first = list(calls)
    await asyncio.sleep(0.01)
    lines.release()
    calls.append(-1)
    lines.hold()
    await pace.run()

    assert [0, 1] == first
    assert [0, 1, -1, 2, 3] == calls
    assert pace.finished


async def test_steps_that_are_due_go_out_together(loop: JumpingLoop) -> None:
    """Nobody is called for each of them."""
    lines, receiver = Lines(), FakeReceiver()
    lines.connect(receiver)

    def late(index: int) -> None:
        lines.add(b"%d" % index)
        if index == 0:
            loop.jump(0.01)

    await make_pace(lines, late, count=3, pause=0.001).run()

    assert [[b"0"], [b"1", b"2"]] == receiver.batches


async def test_cancelled_pace_makes_no_further_call(lines: Lines) -> None:
    """It is forgotten."""
    calls: list[int] = []
    pace = make_pace(lines, calls.append, count=5, pause=0.05)
    running = asyncio.ensure_future(pace.run())
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.sleep(0.08)

    assert running.cancelled()
    assert [0] == calls
