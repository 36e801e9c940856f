"""One request with its replies, apart from the socket that carries it.

A call outlives connections: `moorline.connection` sends it again on the next
one when that is safe.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

from moorline.closing import backoff
from moorline.exceptions import MoorlineError

Json = dict[str, Any]

# A stream whose reader is slower than the server is stopped beyond this, and
# asked for again once the reader has caught up: memory is bounded, nothing lost.
BUFFER_BYTES = 4 * 1024 * 1024


@dataclass(slots=True, kw_only=True, eq=False)
class UnaryCall:
    """A call with one reply.

    Attributes:
        name: Member of `gateway.v1.ClientFrame`, for example `createTurn`.
        request: Its JSON.
        repeatable: True when sending it twice does what sending it once does.
        reply: Resolves to the response's JSON.
        sends: How often it was handed to a socket.
    """

    name: str
    request: Json
    repeatable: bool
    reply: asyncio.Future[Json]
    sends: int = 0

    def fail(self, error: MoorlineError) -> None:
        """End the call, unless it has ended."""
        if not self.reply.done():
            self.reply.set_exception(error)


class Streams(Protocol):
    """What a streaming call needs of its connection."""

    stall_limit: timedelta | None

    def begin(self, call: StreamCall) -> None:
        """Send the call under a new number, now or as soon as there is a connection."""
        ...

    def abandon(self, call: StreamCall) -> None:
        """Tell the server to stop and forget the call."""
        ...


class StreamCall:
    """A call with many replies, which asks again by itself when it is cut.

    One reader. `request` is called at every subscription and must describe what
    the reader still lacks.
    """

    def __init__(self, *, name: str, request: Callable[[], Json], streams: Streams) -> None:
        self.name = name
        self.request = request
        self._streams = streams
        self._replies: deque[tuple[Json, int]] = deque()
        self._bytes = 0
        self._error: MoorlineError | None = None
        self._news = asyncio.Event()
        self._subscribed = False
        self._restarted = False
        self._failures = 0
        self._stalled_since: float | None = None

    def restart(self) -> None:
        """Note that the call was just sent: what follows continues from `request()`."""
        self._replies.clear()
        self._bytes = 0
        self._restarted = True
        self._news.set()

    def push(self, reply: Json, size: int) -> None:
        """Keep a reply for the reader.

        Args:
            reply: The response.
            size: Bytes of its frame.
        """
        self._replies.append((reply, size))
        self._bytes += size
        if self._bytes > BUFFER_BYTES and len(self._replies) > 1:
            self._streams.abandon(self)
            self._subscribed = False
        self._news.set()

    def fail(self, error: MoorlineError) -> None:
        """Note that the server, or the connection, ended the call."""
        self._error = error
        self._subscribed = False
        self._news.set()

    async def next(self) -> Json | None:
        """The next reply; None when the call has just begun anew.

        Waits as long as nothing happens, which may be for ever.

        Raises:
            MoorlineError: The call cannot go on.
        """
        while True:
            if self._restarted:
                self._restarted = False
                return None
            if self._replies:
                reply, size = self._replies.popleft()
                self._bytes -= size
                self._failures = 0
                self._stalled_since = None
                return reply
            if self._error is not None:
                await self._recover(self._error)
            elif not self._subscribed:
                self.again()
            self._news.clear()
            if not (self._restarted or self._replies or self._error):
                await self._news.wait()

    def again(self) -> None:
        """Ask for everything after what the reader has, dropping what is buffered."""
        if self._subscribed:
            self._streams.abandon(self)
        self._replies.clear()
        self._bytes = 0
        self._error = None
        self._subscribed = True
        self._streams.begin(self)

    def close(self) -> None:
        """Stop; doing it again changes nothing."""
        if self._subscribed:
            self._streams.abandon(self)
        self._subscribed = False

    async def _recover(self, error: MoorlineError) -> None:
        now = asyncio.get_running_loop().time()
        self._stalled_since = now if self._stalled_since is None else self._stalled_since
        limit = self._streams.stall_limit
        stalled = limit is not None and now - self._stalled_since > limit.total_seconds()
        if stalled or not error.retryable:
            raise error
        wait = max(backoff(self._failures), error.retry_after or timedelta(0))
        self._failures += 1
        await asyncio.sleep(wait.total_seconds())
        self.again()
