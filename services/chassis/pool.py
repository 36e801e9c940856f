"""One member for each address: whatever it takes to talk to the process there.

Does not know what members do, or how one of them is chosen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType
from typing import Generic, Protocol, Self, TypeVar

from services.chassis.discovery import Discovery
from services.chassis.tasks import Tasks

_CLOSE_SECONDS = 5.0


class Member(Protocol):
    """What a pool keeps for an address."""

    @property
    def busy(self) -> bool:
        """True while it is needed although nobody asks the pool for it."""
        ...

    async def close(self) -> None:
        """Let go of everything. Called once; the pool has forgotten the member by then."""
        ...


M = TypeVar("M", bound=Member)


class Pool(Generic[M]):
    """Members by their address; an async context manager.

    What is discovered has a member at once and for as long as it is discovered; any
    other address gets one when it is asked for, because an address out of a redirect
    or out of a stored record need not be discovered, yet or any more. Such a member
    is closed when it was neither busy nor asked for during `idle`.

    Args:
        discovery: Tells which addresses there are; open for longer than the pool.
        open: Makes the member of an address, from inside of the event loop. It may
            dial in the background.
        idle: How long a member is kept that is not discovered and not used.
    """

    def __init__(
        self,
        *,
        discovery: Discovery,
        open: Callable[[str], M],  # noqa: A002
        idle: timedelta = timedelta(seconds=60),
    ) -> None:
        self._discovery = discovery
        self._make = open
        self._idle = idle.total_seconds()
        self._members: dict[str, M] = {}
        # Loop time at which a member was last asked for or seen busy or discovered.
        self._used: dict[str, float] = {}
        self._tasks = Tasks()
        self._closing: set[asyncio.Task[None]] = set()
        self._opened = False

    async def __aenter__(self) -> Self:
        """Make the members of what is discovered, now and at each change."""
        self._opened = True
        self._discovery.on_change(self._discover)
        self._discover()
        self._tasks.spawn(self._close_idle(), name="pool")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close all members at once, and wait until they are, for at most 5 s."""
        self._opened = False
        for address in list(self._members):
            self._close(address)
        if self._closing:
            await asyncio.wait(self._closing, timeout=_CLOSE_SECONDS)
        await self._tasks.close()

    def __len__(self) -> int:
        return len(self._members)

    def get(self, address: str) -> M:
        """Return the member of an address; makes it when there is none.

        Raises:
            RuntimeError: The pool is not open.
        """
        if not self._opened:
            raise RuntimeError("the pool is not open: use `async with`")
        self._used[address] = asyncio.get_running_loop().time()
        member = self._members.get(address)
        if member is None:
            member = self._members[address] = self._make(address)
        return member

    def members(self) -> dict[str, M]:
        """Return every member there is by its address, whether discovered or not."""
        return dict(self._members)

    def discovered(self) -> list[M]:
        """Return the members of what is discovered now, in the order of addresses.

        Raises:
            RuntimeError: The pool is not open.
        """
        return [self.get(address) for address in sorted(self._discovery.addresses)]

    def _discover(self) -> None:
        # Told of a change after the end, too.
        if self._opened:
            self.discovered()

    async def _close_idle(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._idle / 4)
            now, discovered = loop.time(), self._discovery.addresses
            for address, member in list(self._members.items()):
                if member.busy or address in discovered:
                    self._used[address] = now
                elif now - self._used[address] >= self._idle:
                    self._close(address)

    def _close(self, address: str) -> None:
        # Forgotten first: who asks from now on gets a new one.
        member = self._members.pop(address)
        del self._used[address]
        task = self._tasks.spawn(member.close(), name="pool-close")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
