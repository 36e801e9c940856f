"""Prints at even times. Does not know what is printed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from services.executor.channels.simulation.lines import Lines
from services.executor.channels.simulation.ticker import Ticker, tick_at


class Pace:
    """Calls `step` once for each index, `pause` seconds apart.

    By the schedule and not from call to call, so that being late does not add up. A plain call,
    not a coroutine that sleeps: hundreds of agents stream at once, and to wake a coroutine
    through all those that wait for it cost three times as much, measured.

    Args:
        count: Calls to make.
        pause: Seconds from one to the next.
        step: Called with 0, 1, 2 …; adds lines.
        lines: Flushed after the steps that are due; the pace stops when they are full.
        ticker: Says when a step is due.
    """

    __slots__ = (
        "_count", "_index", "_lines", "_pause", "_start", "_step", "_stopped", "_tick", "_ticker",
    )  # fmt: skip

    def __init__(
        self,
        *,
        count: int,
        pause: float,
        step: Callable[[int], None],
        lines: Lines,
        ticker: Ticker,
    ) -> None:
        loop = asyncio.get_running_loop()
        self._count = count
        self._pause = pause
        self._step = step
        self._lines = lines
        self._ticker = ticker
        self._start = loop.time()
        self._index = 0
        # When the next step is due.
        self._tick = tick_at(self._start)
        self._stopped: asyncio.Future[None] = loop.create_future()

    @property
    def finished(self) -> bool:
        """Whether all calls were made."""
        return self._index == self._count

    async def run(self) -> None:
        """Make the calls that are due, as they become due, until finished or full.

        Called again to go on. A cancel makes no further call.
        """
        loop = asyncio.get_running_loop()
        self._stopped = loop.create_future()
        self.woken(tick_at(loop.time()))
        try:
            await self._stopped
        finally:
            self._ticker.forget(self, self._tick)

    def woken(self, tick: int) -> None:
        """See `ticker.Sleeper`."""
        lines = self._lines
        while self._tick <= tick:
            if self._index == self._count or lines.full:
                lines.flush()
                if not self._stopped.done():
                    self._stopped.set_result(None)
                return
            self._step(self._index)
            self._index += 1
            if self._index < self._count:
                self._tick = tick_at(self._start + self._index * self._pause)
        self._ticker.wake(self, self._tick)
        lines.flush()
