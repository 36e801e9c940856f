"""Tests of `services.session.watches`: one source for one stream."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from services.chassis.failures import Failure, not_found
from services.session import watches as watches_module
from services.session.watches import Watches


class FakeSource:
    """A source in the test's hands."""

    def __init__(self, mark: Callable[[], None]) -> None:
        self.mark = mark
        self.parts: list[tuple[list[int], bool]] = []
        self.failure: Failure | None = None
        self.done = False
        self.closed = 0

    def take(self, budget: int, news: list[int]) -> tuple[int, bool]:
        """See `Source`."""
        numbers, more = self.parts.pop(0) if self.parts else ([], False)
        news += numbers
        return len(numbers), more

    def end(self, failure: Failure) -> None:
        """See `Source`."""
        self.failure = failure
        self.mark()

    def close(self) -> None:
        """See `Source`."""
        self.closed += 1


async def test_it_takes_until_nothing_is_left_then_waits_for_news() -> None:
    """More at once comes at once, the rest when it is marked."""
    made: list[FakeSource] = []

    def subscribe(mark: Callable[[], None]) -> FakeSource:
        source = FakeSource(mark)
        source.parts = [([1], True), ([], True), ([2], False)]
        made.append(source)
        return source

    stream = Watches().follow(list[int], subscribe)
    assert [1] == await anext(stream)
    assert [2] == await anext(stream)
    waiting = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0.01)
    assert not waiting.done()

    made[0].parts = [([3], False)]
    made[0].mark()

    assert [3] == await waiting
    await stream.aclose()  # type: ignore[attr-defined]
    assert 1 == made[0].closed


async def test_silence_is_broken_by_an_empty_response(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that proxies keep the stream open."""
    monkeypatch.setattr(watches_module, "_SILENCE_SECONDS", 0.01)
    stream = Watches().follow(list[int], FakeSource)

    assert [[], []] == [await anext(stream), await anext(stream)]
    await stream.aclose()  # type: ignore[attr-defined]


async def test_it_raises_why_the_source_ended() -> None:
    """And closes it."""
    made: list[FakeSource] = []

    def subscribe(mark: Callable[[], None]) -> FakeSource:
        made.append(FakeSource(mark))
        return made[0]

    stream = Watches().follow(list[int], subscribe)
    waiting = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    made[0].end(not_found())

    with pytest.raises(Failure) as raised:
        await waiting

    assert "RESOURCE_NOT_FOUND" == raised.value.reason_name
    assert 1 == made[0].closed
