"""Tests of `services.chassis.silence`."""

from __future__ import annotations

import asyncio
import time

import pytest

from services.chassis.silence import Silence


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

    assert 0.04 < now() - start < 1


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

    assert now() - start > 0.29


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


async def test_a_process_that_stood_still_hears_first() -> None:
    """After a pause, what has come meanwhile gets the time to be read."""
    silence = Silence(seconds=0.05)
    silence.begin()
    heard = asyncio.Event()
    async with silence.unbroken():
        time.sleep(1.2)  # noqa: ASYNC251 - stands still, as a stopped process does
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
        time.sleep(0.21)  # noqa: ASYNC251 - stands still, as a busy machine makes it
        await heard.wait()

    silence.end()
