"""How long somebody who does not answer is waited for.

Does not know who it is.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta


class Patience:
    """Counts the time between two looks, but for the time that this process stood still.

    After a pause of our own, nobody had a chance to answer: giving up at once would
    blame others for it.

    Args:
        whole: How long to wait.
        step: Longest time between two looks when the process runs.
    """

    __slots__ = ("_last", "_left", "_step", "_whole")

    def __init__(self, *, whole: timedelta, step: timedelta) -> None:
        self._whole = whole.total_seconds()
        self._step = step.total_seconds()
        self.begin()

    def begin(self) -> None:
        """Wait the whole time from now on."""
        self._left = self._whole
        self._last = asyncio.get_running_loop().time()

    def skip(self) -> None:
        """Count nothing since the last look: somebody else was waited for."""
        self._last = asyncio.get_running_loop().time()

    def over(self) -> bool:
        """Look: tell whether the time is over."""
        now = asyncio.get_running_loop().time()
        self._left -= min(now - self._last, self._step)
        self._last = now
        return self._left <= 0
