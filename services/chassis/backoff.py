"""Pauses between the tries of something that fails for a while.

Does not know what is tried.
"""

from __future__ import annotations

import asyncio
import random

_FIRST_SECONDS = 0.05
_LAST_SECONDS = 1.0


class Backoff:
    """Waits about twice as long each time, from 50 ms up to a second.

    A random part of each pause is left out, so that many who failed together do not
    try again together.
    """

    __slots__ = ("seconds",)

    def __init__(self) -> None:
        self.seconds = _FIRST_SECONDS
        """The most that the next pause takes."""

    async def pause(self) -> None:
        """Wait before the next try."""
        await asyncio.sleep(self.seconds * random.uniform(0.5, 1.0))  # noqa: S311
        self.seconds = min(_LAST_SECONDS, self.seconds * 2)

    def reset(self) -> None:
        """Begin with short pauses again."""
        self.seconds = _FIRST_SECONDS
