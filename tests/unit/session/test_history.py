"""Tests of `services.session.history`: a log is read from any number, in pages."""

from __future__ import annotations

from services.session.history import History
from tests.unit.session.log_writing import Writer, message


async def test_events_after_any_number(writer: Writer, history: History) -> None:
    """Each position gives exactly the rest, through segments of any size."""
    log = await writer.open()
    for size in (1, 3, 0, 0, 2, 5, 0):
        await log.append("t1", [message("x") for _ in range(size)])

    for after in range(12):
        found = [event.sequence for event in await history.events(after)]
        assert list(range(after + 1, 12)) == found


async def test_a_long_log_comes_in_pages(writer: Writer, history: History) -> None:
    """A page has a bounded number of segments, and the next goes on after it."""
    log = await writer.open()
    for _ in range(80):
        await log.append("t1", [message("x")])

    numbers: list[int] = []
    pages = 0
    while events := await history.events(len(numbers)):
        numbers += [event.sequence for event in events]
        pages += 1

    assert list(range(1, 81)) == numbers
    assert 3 == pages


async def test_every_segment_since_an_event_has_its_turn(writer: Writer, history: History) -> None:
    """Those without events too, wherever they are: they may have cursors."""
    log = await writer.open()
    for cursor in range(1, 91):
        await log.append("t1", [message("x")] * (cursor % 45 == 2), cursors={"x": cursor})

    segments = [segment async for segment in history.since(1)]

    assert list(range(2, 91)) == [segment.cursors["x"] for segment in segments]


async def test_an_empty_log_has_no_tail(history: History) -> None:
    """Nothing was written yet."""
    assert await history.tail() is None
    assert [] == await history.events(0)
    assert [] == [segment async for segment in history.since(1)]
