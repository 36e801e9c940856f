"""Tests of `services.chassis.silence`."""

from __future__ import annotations

import asyncio

import pytest

from services.chassis.silence import Silence
from tests.unit.chassis.service import stand_still


def now() -> float:
    """Return the loop's time."""
    return asyncio.get_running_loop().time()


async def test_silence_ends_every_wait() -> None:
    """Counted from the beginning when nothing was heard at all."""
    silence, start = Silence(seconds=0.05), now()

    async def wait() -> None:
        with pytest.raises(TimeoutError):
            async with silence.unbroken():
                await asyncio.Event().wait()

    silence.begin()
    await asyncio.gather(wait(), wait())

    assert now() - start == pytest.approx(0.05)


async def test_what_is_heard_puts_it_off() -> None:
    """The timer looks at the time of it, and nothing else is done."""
    silence, start = Silence(seconds=0.1), now()

    async def hear() -> None:
        async with silence.unbroken():
            for _ in range(20):
                await asyncio.sleep(0.01)
                silence.heard = now()
            await asyncio.Event().wait()

    silence.begin()
    with pytest.raises(TimeoutError):
        await hear()

    assert now() - start == pytest.approx(0.3)


async def test_a_wait_may_end_by_itself() -> None:
    """Then silence does not concern it."""
    silence = Silence(seconds=0.01)
    silence.begin()
    async with silence.unbroken():
        await asyncio.sleep(0)

    await asyncio.sleep(0.05)


async def test_the_end_ends_waits_at_once() -> None:
    """And leaves no timer; repeating it changes nothing; it can begin again."""
    silence = Silence(seconds=60)
    for _ in range(2):
        silence.begin()
        asyncio.get_running_loop().call_soon(silence.end)
        with pytest.raises(TimeoutError):
            async with silence.unbroken():
                await asyncio.Event().wait()
        silence.end()
        assert silence._timer is None


@pytest.mark.parametrize("before", [0.0, 0.045])
async def test_a_process_that_stood_still_hears_first(before: float) -> None:
    """After a pause, also one late in a silence, what has come gets the time to be read."""
    silence = Silence(seconds=0.05)
    silence.begin()
    heard = asyncio.Event()
    async with silence.unbroken():
        await asyncio.sleep(before)
        stand_still(1.2)
        await asyncio.sleep(0.01)
        silence.heard = now()
        heard.set()

    assert heard.is_set()
    silence.end()


async def test_a_pause_as_long_as_the_silence_is_none() -> None:
    """What came meanwhile takes some turns of the loop to be heard."""
    silence, heard = Silence(seconds=0.2), asyncio.Event()

    async def hear() -> None:
        for _ in range(5):
            await asyncio.sleep(0)
        silence.heard = now()
        heard.set()

    silence.begin()
    async with silence.unbroken(), asyncio.TaskGroup() as group:
        group.create_task(hear())
        stand_still(0.21)
        await heard.wait()

    silence.end()
