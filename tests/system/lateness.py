"""Notes when this process did not get to run: whatever its clients see then, they see late.

Does not know what was to be seen.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Self

_PAUSE_SECONDS = 0.05
_LATE_SECONDS = 0.1
"""Less is what every timer of a busy machine has, and would add up to much."""


class Lateness:
    """How late this process is; an async context manager that notes it while inside."""

    def __init__(self) -> None:
        self._spans: list[tuple[float, float]] = []
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Begin to note."""
        self._task = asyncio.create_task(self._note())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Note no more; what was noted stays."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def own(self, instant: float) -> float:
        """Return an instant of the loop's clock on one that stood still while this was late.

        Args:
            instant: In the loop's seconds, not later than now.
        """
        return instant - sum(
            min(woken, instant) - due for due, woken in self._spans if due < instant
        )

    async def _note(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _PAUSE_SECONDS
            await asyncio.sleep(_PAUSE_SECONDS)
            if loop.time() - due > _LATE_SECONDS:
                self._spans.append((due, loop.time()))
