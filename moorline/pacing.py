"""Keeps what is sent within the rate the server announced.

Does not know what is sent.
"""

from __future__ import annotations

import asyncio


class Pace:
    """A token bucket: `burst` at once, then `per_second`."""

    def __init__(self, *, per_second: int, burst: int) -> None:
        self._per_second = per_second
        self._burst = burst
        self._left = float(burst)
        self._at = 0.0

    async def wait(self) -> None:
        """Return when one more may be sent. Without a rate, at once."""
        if self._per_second <= 0 or self._burst <= 0:
            return
        now = asyncio.get_running_loop().time()
        self._left = min(self._burst, self._left + (now - self._at) * self._per_second)
        self._at = now
        self._left -= 1
        if self._left < 0:
            await asyncio.sleep(-self._left / self._per_second)
