"""The time by which the platform's promises end: tickets, logins, signed tokens.

It is the database's time, as the session service passes it on, so that every
gateway agrees on it whatever its own clock says. Does not know who asks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

_SAMPLES = 16


class PlatformClock:
    """Seconds since the epoch; call it to read it.

    Args:
        monotonic: Seconds of a clock that does not go back.
        wall: Seconds since the epoch by this machine's clock, believed in until
            the session service has told the time.
    """

    def __init__(self, *, monotonic: Callable[[], float], wall: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._wall = wall
        # What was told less what `monotonic` said: late by the time it travelled.
        self._offsets: deque[float] = deque(maxlen=_SAMPLES)
        self._offset: float | None = None

    def __call__(self) -> float:
        """Return the time."""
        return self._wall() if self._offset is None else self._monotonic() + self._offset

    @property
    def known(self) -> bool:
        """True once the time was told: until then it is this machine's, which may be wrong."""
        return self._offset is not None

    def told(self, seconds: float) -> None:
        """Take the time that was just told, in seconds since the epoch."""
        self._offsets.append(seconds - self._monotonic())
        # Of several the least late one: a process that stood still reads old news first.
        self._offset = max(self._offsets)
