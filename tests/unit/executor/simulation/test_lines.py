"""Tests of `services.executor.channels.simulation.lines`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from services.executor.channels.simulation.lines import LIMIT, Lines


async def test_burst_is_handed_over_at_once() -> None:
    """All that waits is one batch, and the end comes after it."""
    lines = Lines()
    lines.put(b"a")
    lines.put(b"b")
    lines.end()

    assert [[b"a", b"b"]] == [list(batch) async for batch in lines.batches()]


async def test_reader_waits_for_a_line() -> None:
    """Each line arrives once, in order; the end wakes the reader."""
    lines = Lines()
    read: list[Sequence[bytes]] = []

    async def reader() -> None:
        read.extend([batch async for batch in lines.batches()])

    task = asyncio.ensure_future(reader())
    await asyncio.sleep(0)
    lines.put(b"a")
    lines.put(b"b")
    await asyncio.sleep(0.001)
    lines.end()
    lines.end()
    await task

    assert [[b"a", b"b"]] == read


async def test_full_queue_holds_its_writer() -> None:
    """Until the reader takes what is there."""
    lines = Lines()
    for _ in range(LIMIT):
        lines.put(b"x")
    writing = [asyncio.ensure_future(lines.room()) for _ in range(2)]
    await asyncio.sleep(0.001)
    held = [one.done() for one in writing]
    await anext(lines.batches())
    await asyncio.gather(*writing)

    assert [False, False] == held
    assert not lines.full


async def test_end_frees_the_writer() -> None:
    """Nobody reads a process that is gone."""
    lines = Lines()
    for _ in range(LIMIT):
        lines.put(b"x")
    writing = asyncio.ensure_future(lines.room())
    await asyncio.sleep(0.001)
    lines.end()
    await writing
    await lines.room()

    assert lines.full


async def test_cancelled_reader_and_writer_do_no_harm() -> None:
    """Who waited for them goes on."""
    lines = Lines()
    reading = asyncio.ensure_future(anext(lines.batches()))
    await asyncio.sleep(0)
    reading.cancel()
    for _ in range(LIMIT):
        lines.put(b"x")
    writing = asyncio.ensure_future(lines.room())
    await asyncio.sleep(0.001)
    writing.cancel()
    batch = await anext(lines.batches())

    assert LIMIT == len(batch)
