"""What one connection may do, and the bucket that measures a rate.

Does not know frames or sockets.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from moorline.gateway.v1 import frames_pb2


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of every connection.

    Attributes:
        frame_bytes: Bytes of one frame from the client.
        prompt_characters: Characters of a prompt; told, not enforced here.
        calls_in_flight: Calls in progress, streams not counted.
        watches: Streams at a time.
        frames_per_second: Frames from the client, sustained.
        frames_burst: Frames from the client that may come at once.
        heartbeat: Silence after which a heartbeat is sent.
    """

    frame_bytes: int = 524_288
    prompt_characters: int = 100_000
    calls_in_flight: int = 32
    watches: int = 50
    frames_per_second: int = 20
    frames_burst: int = 60
    heartbeat: timedelta = timedelta(seconds=20)

    def to_message(self) -> frames_pb2.Limits:
        """Return what a client is told."""
        return frames_pb2.Limits(
            frame_bytes=self.frame_bytes,
            prompt_characters=self.prompt_characters,
            calls_in_flight=self.calls_in_flight,
            watches=self.watches,
            frames_per_second=self.frames_per_second,
            frames_burst=self.frames_burst,
        )


class TokenBucket:
    """Lets `rate` a second pass, and `burst` at once after a silence.

    Args:
        rate: Tokens that come back in a second.
        burst: Tokens it holds, and has at first.
        now: The time, in seconds of any clock that does not go back.
    """

    __slots__ = ("_burst", "_rate", "_time", "_tokens")

    def __init__(self, *, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._time = now

    def take(self, now: float) -> bool:
        """Take a token, or return False when there is none."""
        self._refill(now)
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def wait(self) -> timedelta:
        """How long until a token is there; zero when one is."""
        return timedelta(seconds=max(0.0, 1 - self._tokens) / self._rate)

    def _refill(self, now: float) -> None:
        self._tokens = min(self._burst, self._tokens + (now - self._time) * self._rate)
        self._time = now
