"""A document that is written at most so often, and told by segments until then.

Does not know what is in it, nor how it is written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Late:
    """What a document shall be.

    Attributes:
        fields: All of it.
        carried: What of it no older state of the document tells; short.
    """

    fields: Mapping[str, Any]
    carried: Mapping[str, Any]


class LateDocument:
    """One document that changes faster than it may be written.

    Args:
        pace: Least seconds between two writes; 0 lets each write pass.
        due: Called when it may be written again and has not been.
    """

    __slots__ = ("_due", "_pace", "_timer", "_written", "waiting")

    def __init__(self, *, pace: float, due: Callable[[], None]) -> None:
        self._pace = pace
        self._due = due
        self._timer: asyncio.TimerHandle | None = None
        self._written = float("-inf")
        self.waiting: Late | None = None
        """What was not written yet."""

    def take(self) -> Late | None:
        """Return what may be written now, and call `due` for what may not."""
        loop = asyncio.get_running_loop()
        if self.waiting is None:
            return None
        left = self._written + self._pace - loop.time()
        if left > 0:
            if self._timer is None:
                self._timer = loop.call_later(left, self._wake)
            return None
        late = self.waiting
        self.written()
        return late

    def written(self) -> None:
        """Note that the document is being written, with the newest it shall be."""
        self._written = asyncio.get_running_loop().time()
        self.waiting = None

    def hurry(self) -> None:
        """Let it be written at the next opportunity."""
        self._written = float("-inf")

    def close(self) -> None:
        """Call `due` no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _wake(self) -> None:
        self._timer = None
        if self.waiting is not None:
            self._due()
