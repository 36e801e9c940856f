"""The processes behind the gateway: what it keeps for each of them.

Does not know which of them a call is for.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from datetime import timedelta
from typing import Protocol, TypeVar

from google.protobuf.message import Message

from services.chassis.client import Peer
from services.chassis.identity import Identity
from services.chassis.tasks import Tasks
from services.gateway.upstream import Link, open_link

R = TypeVar("R", bound=Message)

LOST_SECONDS = 1.0
"""A pod whose feed has been away for so long is not there: a feed is tried again sooner."""
_SUBSCRIBES = 64


class Caller(Protocol):
    """Makes unary calls; `Peer` does, and says more about it."""

    async def call(
        self,
        method: str,
        request: Message,
        response: type[R],
        *,
        identity: Identity,
        timeout: timedelta,  # noqa: ASYNC109
    ) -> R:
        """Make a call."""
        ...


class Pod(Caller, Protocol):
    """A process of the session service."""

    @property
    def address(self) -> str:
        """Where it is dialled, `host:port`."""
        ...

    @property
    def connected(self) -> bool:
        """True while its feed is open."""
        ...

    @property
    def away_seconds(self) -> float:
        """For how long its feed has not been open; 0 while it is."""
        ...

    @property
    def lost(self) -> bool:
        """True when its feed has not been open for longer than a new start takes."""
        ...

    @property
    def heard(self) -> float:
        """Loop time at which its feed last brought anything; it beats every 3 s."""
        ...

    @property
    def link(self) -> Link:
        """Its feed; subscriptions end when it breaks."""
        ...

    @property
    def slots(self) -> asyncio.Semaphore:
        """Held while subscribing to it."""
        ...


class Pods(Protocol):
    """Every pod of the session service; `Pool` is one."""

    def get(self, address: str) -> Pod:
        """Return the pod at an address, discovered or not."""
        ...

    def discovered(self) -> Sequence[Pod]:
        """Return those that are known to be there."""
        ...


class SessionPod:
    """A pod of the session service, dialled in the background.

    Args:
        peer: Not yet open; this opens and closes it.
        on_time: Called with the platform's time, in seconds since the epoch.
    """

    def __init__(self, *, peer: Peer, on_time: Callable[[float], None]) -> None:
        self.address = peer.target
        self.heard = float("-inf")
        self.slots = asyncio.Semaphore(_SUBSCRIBES)
        self._peer = peer.open()
        self._on_time = on_time
        self._loop = asyncio.get_running_loop()
        self._tasks = Tasks()
        self._calls = 0
        self.link = open_link(self._peer, self._tasks, self._hear)

    @property
    def connected(self) -> bool:
        """See `Pod`."""
        return self.link.connected

    @property
    def away_seconds(self) -> float:
        """See `Pod`."""
        since = self.link.disconnected_since
        return 0.0 if since is None else self._loop.time() - since

    @property
    def lost(self) -> bool:
        """See `Pod`."""
        return self.away_seconds >= LOST_SECONDS

    @property
    def busy(self) -> bool:
        """See `pool.Member`."""
        return self._calls > 0 or len(self.link) > 0

    async def call(
        self,
        method: str,
        request: Message,
        response: type[R],
        *,
        identity: Identity,
        timeout: timedelta,  # noqa: ASYNC109
    ) -> R:
        """See `Caller`."""
        self._calls += 1
        try:
            return await self._peer.call(
                method, request, response, identity=identity, timeout=timeout
            )
        finally:
            self._calls -= 1

    async def healthy(self, timeout: timedelta) -> bool:  # noqa: ASYNC109
        """See `Peer.healthy`."""
        return await self._peer.healthy(timeout)

    async def close(self) -> None:
        """See `pool.Member`."""
        self.link.close()
        await self._tasks.close()
        await self._peer.close()

    def _hear(self, seconds: float) -> None:
        self.heard = self._loop.time()
        if seconds:
            self._on_time(seconds)


class ExecutorPod:
    """An executor, dialled when it is called.

    Args:
        peer: Not yet open; this opens and closes it.
    """

    def __init__(self, *, peer: Peer) -> None:
        self.address = peer.target
        self._peer = peer.open()
        self._streams = 0
        self.call = self._peer.call
        self.healthy = self._peer.healthy

    @property
    def busy(self) -> bool:
        """See `pool.Member`."""
        return self._streams > 0

    async def stream(
        self,
        method: str,
        request: Message,
        response: type[R],
        *,
        identity: Identity,
        timeout: timedelta | None = None,  # noqa: ASYNC109
    ) -> AsyncGenerator[R, None]:
        """See `Peer.stream`."""
        self._streams += 1
        try:
            answers = self._peer.stream(
                method, request, response, identity=identity, timeout=timeout
            )
            async with aclosing(answers):
                async for answer in answers:
                    yield answer
        finally:
            self._streams -= 1

    async def close(self) -> None:
        """See `pool.Member`."""
        await self._peer.close()
