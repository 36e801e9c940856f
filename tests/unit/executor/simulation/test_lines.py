"""Tests of `services.executor.channels.simulation.lines`."""

from __future__ import annotations

import asyncio

from services.executor.channel import Exit, ExitReason
from services.executor.channels.simulation.lines import LIMIT, Lines
from tests.unit.executor.fakes import FakeReceiver, until

ENDED = Exit(0, ExitReason.EXITED)


async def test_burst_is_handed_over_at_once() -> None:
    """All that waits is one batch, and the end comes after it."""
    lines, receiver = Lines(), FakeReceiver()
    lines.put(b"a")
    lines.connect(receiver)
    lines.put(b"b")
    lines.end(ENDED)
    early = list(receiver.batches)
    await until(lambda: receiver.ended)

    assert [] == early
    assert [[b"a", b"b"]] == receiver.batches
    assert ENDED == receiver.ended


async def test_what_is_added_waits_for_a_flush() -> None:
    """Who writes many lines says when they go out."""
    lines, receiver = Lines(), FakeReceiver()
    lines.connect(receiver)
    await asyncio.sleep(0.001)
    lines.add(b"a")
    await asyncio.sleep(0.001)
    early = list(receiver.batches)
    lines.flush()
    lines.flush()

    assert [] == early
    assert [[b"a"]] == receiver.batches


async def test_held_lines_wait() -> None:
    """Until they are released, the end too; each arrives once, in order."""
    lines, receiver = Lines(), FakeReceiver()
    lines.connect(receiver)
    lines.hold()
    lines.put(b"a")
    lines.put(b"b")
    lines.end(ENDED)
    await asyncio.sleep(0.001)
    early = (list(receiver.batches), receiver.ended)
    lines.release()
    lines.release()

    assert ([], None) == early
    assert [[b"a", b"b"]] == receiver.batches
    assert ENDED == receiver.ended


async def test_receiver_may_hold_while_it_receives() -> None:
    """Then the end waits as well."""
    lines = Lines()

    class Holding(FakeReceiver):
        def receive(self, batch: object) -> None:
            lines.hold()

    receiver = Holding()
    lines.connect(receiver)
    lines.put(b"a")
    lines.end(ENDED)
    await asyncio.sleep(0.001)
    early = receiver.ended
    lines.release()

    assert early is None
    assert ENDED == receiver.ended


async def test_full_queue_holds_its_writer() -> None:
    """Until the lines are released."""
    lines, receiver = Lines(), FakeReceiver()
    lines.connect(receiver)
    lines.hold()
    for _ in range(LIMIT):
        lines.put(b"x")
    writing = [asyncio.ensure_future(lines.room()) for _ in range(2)]
    await asyncio.sleep(0.001)
    held = [one.done() for one in writing]
    lines.release()
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
    lines.end(ENDED)
    await writing
    await lines.room()

    assert lines.full


async def test_cancelled_writer_does_no_harm() -> None:
    """Who waited for it goes on."""
    lines, receiver = Lines(), FakeReceiver()
    for _ in range(LIMIT):
        lines.put(b"x")
    writing = asyncio.ensure_future(lines.room())
    await asyncio.sleep(0.001)
    writing.cancel()
    await asyncio.sleep(0)
    lines.connect(receiver)
    await asyncio.sleep(0.001)

    assert [LIMIT] == list(map(len, receiver.batches))
