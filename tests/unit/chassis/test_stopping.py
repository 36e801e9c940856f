"""Tests of `services.chassis.stopping`."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from services.chassis.stopping import stop_signal
from tests.unit.chassis.service import stand_still


async def receive(number: signal.Signals) -> None:
    """Get a signal, and let the loop tell whoever handles it."""
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, told.set)
    try:
        # The loop tells of signals in the order in which this thread has got them.
        signal.raise_signal(number)
        signal.raise_signal(signal.SIGUSR1)
        await told.wait()
    finally:
        loop.remove_signal_handler(signal.SIGUSR1)


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
    left: list[int] = []
    with stop_signal(left.append):
        await receive(signal.SIGINT)
        stand_still(0.29)
        await receive(signal.SIGINT)
        stand_still(0.02)
        await receive(signal.SIGTERM)
        assert left == []

        await receive(signal.SIGINT)
        assert left == [128 + signal.SIGINT]
