"""Clients that do not read: waits for them, and gives up after a while.

One timer for all of them, and none while there are none. Does not know what was
sent to them.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

PERIOD = 0.05
"""Seconds between looks at the stalled outlets."""
PATIENCE = 15.0
"""Seconds without a byte of progress after which a client is given up."""


class Outlet(Protocol):
    """Where one client's frames go."""

    def writable(self) -> bool:
        """True when a frame can be sent without waiting for the client to read."""

    def buffered(self) -> int:
        """Bytes that wait for the client to read."""

    def resumed(self) -> None:
        """Called when it is writable again."""

    def too_slow(self) -> None:
        """Called once when the client has not read for `PATIENCE`."""


class Stalls:
    """Watches the outlets that are not writable.

    Args:
        loop: Runs the timer.
    """

    def __init__(self, *, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        # By outlet: bytes that waited at the last progress, and when that was.
        self._stalled: dict[Outlet, tuple[int, float]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._stalled)

    def add(self, outlet: Outlet) -> None:
        """Watch an outlet until it is writable; adding it again changes nothing."""
        if outlet not in self._stalled:
            self._stalled[outlet] = (outlet.buffered(), self._loop.time())
            if self._timer is None:
                self._timer = self._loop.call_later(PERIOD, self._look)

    def discard(self, outlet: Outlet) -> None:
        """Stop watching an outlet, as when its connection is gone."""
        self._stalled.pop(outlet, None)

    def _look(self) -> None:
        now = self._loop.time()
        for outlet, (size, since) in list(self._stalled.items()):
            buffered = outlet.buffered()
            if outlet.writable():
                del self._stalled[outlet]
                outlet.resumed()
            elif buffered < size:
                self._stalled[outlet] = (buffered, now)
            elif now - since >= PATIENCE:
                del self._stalled[outlet]
                outlet.too_slow()
        self._timer = self._loop.call_later(PERIOD, self._look) if self._stalled else None
