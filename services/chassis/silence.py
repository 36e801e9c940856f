"""Tells when somebody was not heard of for too long, and ends what waits for them.

Does not know who it is, or how they are heard.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

# The last part of a silence: whoever stood still until then, or in it, first reads what came.
_LAST_PART = 0.25


class Silence:
    """Watches from `begin` to `end`; one timer for all that is heard.

    Args:
        seconds: How long nothing may be heard.
    """

    def __init__(self, *, seconds: float) -> None:
        self._seconds = seconds
        self._last_seconds = seconds * _LAST_PART
        self._timer: asyncio.TimerHandle | None = None
        self._waits: set[asyncio.Timeout] = set()
        self.heard = 0.0
        """Loop time at which something was heard; whoever hears sets it."""

    def begin(self) -> None:
        """Watch from now on."""
        self.heard = asyncio.get_running_loop().time()
        self._look(self.heard, last=False)

    def end(self) -> None:
        """End every wait, and watch no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for scope in self._waits:
            scope.reschedule(0)
        self._waits.clear()

    @asynccontextmanager
    async def unbroken(self) -> AsyncIterator[None]:
        """Wait in the block for as long as there is no silence.

        Raises:
            TimeoutError: There was, or `end` was called.
        """
        # No time limit: `end` sets it.
        async with asyncio.timeout(None) as scope:
            self._waits.add(scope)
            try:
                yield
            finally:
                self._waits.discard(scope)

    def _look(self, due: float, *, last: bool) -> None:
        """Look whether anything was heard; `last` is true at the end of the last part."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        left = self.heard + self._seconds - self._last_seconds - now
        late = now - due > self._last_seconds
        if left <= 0 and last and not late:
            self.end()
            return
        last = left <= 0
        wait = self._last_seconds if last else left
        self._timer = loop.call_later(wait, partial(self._look, now + wait, last=last))
