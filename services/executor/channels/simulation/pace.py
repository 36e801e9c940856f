"""Calls a function at even times. Does not know what it prints."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

_RESOLUTION_SECONDS = 0.001
"""The event loop's timers are this coarse; what is due within it is due."""


class Pace:
    """Calls `step` once for each index, `pause` seconds apart.

    By the schedule and not from call to call, so that being late does not add up. A timer and a
    plain call, not a coroutine that sleeps: hundreds of agents stream at once, and to wake a
    coroutine through all those that wait for it cost three times as much, measured.

    Args:
        count: Calls to make.
        pause: Seconds from one to the next.
        step: Called with 0, 1, 2 …
        held: Whether to stop for now; asked after each call.
    """

    def __init__(
        self, *, count: int, pause: float, step: Callable[[int], None], held: Callable[[], bool]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._count = count
        self._pause = pause
        self._step = step
        self._held = held
        self._start = self._loop.time()
        self._index = 0
        self._timer: asyncio.Handle | None = None
        self._stopped: asyncio.Future[None] = self._loop.create_future()

    @property
    def finished(self) -> bool:
        """Whether all calls were made."""
        return self._index == self._count

    async def run(self) -> None:
        """Make the calls that are due, as they become due, until finished or held.

        Called again to go on. A cancel makes no further call.
        """
        self._stopped = self._loop.create_future()
        self._tick()
        try:
            await self._stopped
        finally:
            if self._timer is not None:
                self._timer.cancel()

    def _tick(self) -> None:
        now = self._loop.time() + _RESOLUTION_SECONDS
        while self._index < self._count:
            due = self._start + self._index * self._pause
            if due > now:
                self._timer = self._loop.call_at(due, self._tick)
                return
            self._step(self._index)
            self._index += 1
            if self._held():
                break
        self._timer = None
        if not self._stopped.done():
            self._stopped.set_result(None)
