"""Every connection of this server: counts them, wakes them, sends them away.

Does not know frames.
"""

from __future__ import annotations

import asyncio
import logging
import random
from datetime import timedelta
from types import TracebackType
from typing import Self

from services.gateway.closing import CloseCode
from services.gateway.connection import REVOKED, Connection

log = logging.getLogger(__name__)

_TICK_SECONDS = 1.0
# A second's work for a thousand connections, done at once, would delay what streams.
_STEPS = 10
_SPREAD_SECONDS = 20.0
# Reconnections a second that the servers which remain are expected to bear.
_RECONNECTIONS = 100
_SEVERED = "this server cannot reach the user's data; reconnect to another"
STAY_SECONDS = 5.0
"""How long a connection stays at least that had better be another server's."""
LEAVE_SECONDS = 1.0
"""How long clients have to answer the close at the end."""


class Connections:
    """The registry of connections.

    Inside `async with` one timer ticks them all.

    Args:
        loop: Runs the timer.
    """

    def __init__(self, *, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        # With the loop time at which each came.
        self._by_user: dict[str, dict[Connection, float]] = {}
        self._timer: asyncio.TimerHandle | None = None
        # Those that are ticked within this second, a step of them at a time.
        self._round: list[Connection] = []
        self._step = 0
        self._empty = asyncio.Event()
        self._empty.set()

    def __len__(self) -> int:
        return sum(len(connections) for connections in self._by_user.values())

    async def __aenter__(self) -> Self:
        self._tick()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop the timer; connections are not closed."""
        if self._timer is not None:
            self._timer.cancel()

    def count(self, user: str) -> int:
        """Connections of one user, without those that were closed and wait for an answer."""
        return sum(not connection.closed for connection in self._by_user.get(user, ()))

    def add(self, connection: Connection) -> None:
        """Keep a connection until `remove`."""
        connections = self._by_user.setdefault(connection.principal.user, {})
        connections[connection] = self._loop.time()
        self._empty.clear()

    def remove(self, connection: Connection) -> None:
        """Forget a connection whose socket is gone."""
        user = connection.principal.user
        connections = self._by_user[user]
        del connections[connection]
        if not connections:
            del self._by_user[user]
        if not self._by_user:
            self._empty.set()

    def revoked(self, key: str) -> None:
        """Close every connection that an API key has opened.

        Args:
            key: `users/{user}/keys/{key}`.
        """
        for connection in self._by_user.get(key.partition("/keys/")[0], ()):
            if connection.principal.key == key:
                # Soon and not now: one that revokes its own key is answered first.
                self._loop.call_soon(connection.close, CloseCode.UNAUTHENTICATED, REVOKED)

    def doubt(self) -> None:
        """Have every connection check soon that what it was opened with is still good."""
        now = self._loop.time()
        for connection in self._all():
            connection.doubt(now)

    def send_away(self, user: str) -> None:
        """Close a user's connections, so that they come to another server.

        Not those that are new: where there is no other server that works they would
        come back at once, without end.
        """
        now = self._loop.time()
        for connection, since in self._by_user.get(user, {}).items():
            if now - since >= STAY_SECONDS:
                self._loop.call_soon(connection.close, CloseCode.SERVICE_RESTART, _SEVERED)

    async def drain(self, limit: timedelta) -> None:
        """Send all away: say when to come back, finish calls in progress, close.

        Args:
            limit: How long all of it may take; calls still in progress then are
                given up.
        """
        connections = self._all()
        spread = min(_SPREAD_SECONDS, len(connections) / _RECONNECTIONS)
        for connection in connections:
            delay = random.uniform(0, spread)  # noqa: S311 - spreads load, guards nothing
            connection.go_away(timedelta(seconds=delay))
        calls = [task for connection in connections for task in connection.tasks]
        if calls:
            patience = max(0.0, limit.total_seconds() - LEAVE_SECONDS)
            _, unfinished = await asyncio.wait(calls, timeout=patience)
            if unfinished:
                log.warning("calls given up", extra={"calls": len(unfinished)})
        for connection in self._all():
            connection.close(CloseCode.SERVICE_RESTART, "the server restarts; reconnect")
        try:
            async with asyncio.timeout(min(LEAVE_SECONDS, limit.total_seconds())):
                await self._empty.wait()
        except TimeoutError:
            log.info("connections cut", extra={"connections": len(self)})

    def _all(self) -> list[Connection]:
        return [connection for group in self._by_user.values() for connection in group]

    def _tick(self) -> None:
        now = self._loop.time()
        self._timer = self._loop.call_later(_TICK_SECONDS / _STEPS, self._tick)
        if self._step == 0:
            self._round = self._all()
        for connection in self._round[self._step :: _STEPS]:
            connection.tick(now)
        self._step = (self._step + 1) % _STEPS
