"""Whether a client behaves: how many frames it sends, and how many are no calls.

Does not know frames.
"""

from __future__ import annotations

from datetime import timedelta

from services.gateway.limits import Limits, TokenBucket

BAD_MESSAGES = 10
"""Messages that are no calls which are forgiven within `BAD_SECONDS`."""
BAD_SECONDS = 10.0
"""See `BAD_MESSAGES`."""
ABUSE_SECONDS = 5.0
"""How long a client may go on sending what is refused for coming too fast."""
ABUSE_FRAMES = 1000
"""How many such frames it may send."""


class Conduct:
    """What one client has done lately.

    Args:
        limits: What it may do.
        now: The time, in seconds of any clock that does not go back.
    """

    __slots__ = ("_bad", "_bucket", "_first_refused", "_last_refused", "_refused")

    def __init__(self, *, limits: Limits, now: float) -> None:
        self._bucket = TokenBucket(
            rate=limits.frames_per_second, burst=limits.frames_burst, now=now
        )
        # When the latest bad messages came, oldest first.
        self._bad: list[float] = []
        # The present flood: its first and last refusal, and how many there were.
        self._first_refused = float("-inf")
        self._last_refused = float("-inf")
        self._refused = 0

    def allows(self, now: float) -> bool:
        """Count a frame; False when it comes too fast and is to be refused."""
        if self._bucket.take(now):
            return True
        if now - self._last_refused > ABUSE_SECONDS:
            self._first_refused = now
            self._refused = 0
        self._last_refused = now
        self._refused += 1
        return False

    @property
    def abusive(self) -> bool:
        """True when refusing frames has not helped."""
        flood = self._last_refused - self._first_refused
        return flood > ABUSE_SECONDS or self._refused > ABUSE_FRAMES

    @property
    def wait(self) -> timedelta:
        """How long until a frame is allowed."""
        return self._bucket.wait()

    def forgives(self, now: float) -> bool:
        """Count a message that is no call; False when there were too many."""
        self._bad = [when for when in self._bad if now - when < BAD_SECONDS]
        self._bad.append(now)
        return len(self._bad) <= BAD_MESSAGES
