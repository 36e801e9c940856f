"""Wakes many who wait for their time, with one timer. Does not know what they do then."""

from __future__ import annotations

import asyncio
from heapq import heappop, heappush
from typing import Protocol

TICKS = 1000
"""Ticks in a second. The event loop's timers are this coarse; what is due within one is due."""


class Sleeper(Protocol):
    """Somebody who waits for a tick."""

    def woken(self, tick: int) -> None:
        """Hear that it is this tick, or later by as much as the loop was busy."""
        ...


class Ticker:
    """Wakes sleepers at their ticks.

    Hundreds of agents stream at once. A timer of the event loop for each of their fragments cost
    twice as much as a place in a list, measured.
    """

    def __init__(self) -> None:
        self._sleepers: dict[int, list[Sleeper]] = {}
        # The keys of the above, as a heap.
        self._ticks: list[int] = []
        self._timer: asyncio.TimerHandle | None = None
        self._timer_tick = 0

    def wake(self, sleeper: Sleeper, tick: int) -> None:
        """Call `sleeper.woken` once at a tick, which must be to come."""
        sleepers = self._sleepers.get(tick)
        if sleepers is not None:
            sleepers.append(sleeper)
            return
        self._sleepers[tick] = [sleeper]
        heappush(self._ticks, tick)
        if self._timer is None or tick < self._timer_tick:
            self._set_timer()

    def forget(self, sleeper: Sleeper, tick: int) -> None:
        """Do not wake a sleeper at a tick after all. One that is not asleep is no error."""
        sleepers = self._sleepers.get(tick, [])
        if sleeper in sleepers:
            sleepers.remove(sleeper)

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._ticks:
            self._timer_tick = self._ticks[0]
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(self._timer_tick / TICKS, self._ring)

    def _ring(self) -> None:
        now = tick_at(asyncio.get_running_loop().time())
        self._timer = None
        try:
            while self._ticks and self._ticks[0] <= now:
                sleepers = self._sleepers[self._ticks[0]]
                while sleepers:
                    sleepers.pop().woken(now)
                del self._sleepers[heappop(self._ticks)]
        finally:
            # Also when one of them fails: the others are woken in the next round.
            self._set_timer()


def tick_at(time: float) -> int:
    """Return the tick at a time of the event loop's clock."""
    return round(time * TICKS)
