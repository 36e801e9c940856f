"""Tests of `services.session.patience`."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

from services.session.executors.patience import Patience
from tests.unit.session.service import until

MS = timedelta(milliseconds=1)


async def test_it_is_over_after_the_whole_time() -> None:
    """However often somebody looks."""
    patience = Patience(whole=50 * MS, step=1000 * MS)
    start = asyncio.get_running_loop().time()
    await until(patience.over)

    assert asyncio.get_running_loop().time() - start >= 0.05


async def test_it_begins_anew() -> None:
    """Whoever answered meanwhile gets the whole time again."""
    patience = Patience(whole=50 * MS, step=1000 * MS)
    await asyncio.sleep(0.06)

    patience.begin()

    assert not patience.over()


async def test_time_that_is_skipped_does_not_count() -> None:
    """Somebody else took it."""
    patience = Patience(whole=50 * MS, step=1000 * MS)
    await asyncio.sleep(0.06)

    patience.skip()

    assert not patience.over()


async def test_a_pause_of_the_process_counts_little() -> None:
    """Nobody could answer then."""
    patience = Patience(whole=50 * MS, step=10 * MS)
    time.sleep(0.1)  # noqa: ASYNC251 - the process stands still

    assert not patience.over()
