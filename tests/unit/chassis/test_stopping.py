"""Tests of `services.chassis.stopping`."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from services.chassis.stopping import stop_signal


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_sets_the_event(number: signal.Signals) -> None:
    """Both signals mean the same; afterwards they have their old meaning."""
    with stop_signal() as stop:
        assert not stop.is_set()
        os.kill(os.getpid(), number)
        await stop.wait()

    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


async def test_the_same_signal_again_ends_the_process() -> None:
    """One of the other kind does not, nor one that comes at once: they mean the same."""
    left: asyncio.Queue[int] = asyncio.Queue()
    with stop_signal(left.put_nowait) as stop:
        os.kill(os.getpid(), signal.SIGINT)
        await stop.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(0.3)
        assert left.empty()

        os.kill(os.getpid(), signal.SIGINT)
        assert await left.get() == 128 + signal.SIGINT
