"""The fair queue: who runs next when there is not room for all.

Does not know executions, nor what they run.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from services.chassis.metrics import Metrics

_TELL_SECONDS = 0.1
"""How long changes of places are gathered before they are told."""


class _Ticket:
    """One that waits."""

    __slots__ = ("granted", "moved", "position")

    def __init__(self, moved: Callable[[int], None]) -> None:
        self.granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.moved = moved
        self.position = 0


class FairQueue:
    """A number of slots, shared fairly between tenants.

    A slot that becomes free goes to the tenant that has the fewest; tenants with equally many take
    turns, and those of one tenant come in the order they asked. A tenant that has all the slots it
    may have is passed over until it has given one back.

    Args:
        slots: How many there are.
        tenant_slots: How many of them one tenant may have.
        metrics: Where those that wait are counted.
    """

    def __init__(self, *, slots: int, tenant_slots: int, metrics: Metrics) -> None:
        self._free = slots
        self._tenant_slots = tenant_slots
        self._taken: Counter[str] = Counter()
        # Tenants with tickets, in the order of their turns.
        self._lines: dict[str, deque[_Ticket]] = {}
        self._telling: asyncio.TimerHandle | None = None
        self._waiting = metrics.gauge("moorline_queued_executions", "Executions without a slot.")

    @asynccontextmanager
    async def slot(self, tenant: str, *, moved: Callable[[int], None]) -> AsyncIterator[None]:
        """Have a slot while inside. Waits as long as the others work, on purpose.

        Args:
            tenant: Whose it is.
            moved: Hears the place in the queue, 1 for the next, whenever it has changed, and 0 at
                its end; not called when nothing is waited for. Must not fail.
        """
        if not self._may_have(tenant):
            await self._wait(tenant, moved)
        else:
            self.take(tenant)
        try:
            yield
        finally:
            self.give_back(tenant)

    def take(self, tenant: str) -> None:
        """Take a slot whether there is one or not: for what runs already."""
        self._free -= 1
        self._taken[tenant] += 1

    def give_back(self, tenant: str) -> None:
        """Give a slot back, and hand out what is free."""
        self._free += 1
        if self._lines:
            # Before it is taken off: who has just had a slot comes after who has had none.
            self._hand_out(returning=tenant)
        self._taken[tenant] -= 1
        if not self._taken[tenant]:
            del self._taken[tenant]

    def _may_have(self, tenant: str, *, returning: str | None = None) -> bool:
        taken = self._taken[tenant] - (tenant == returning)
        return self._free > 0 and taken < self._tenant_slots

    async def _wait(self, tenant: str, moved: Callable[[int], None]) -> None:
        ticket = _Ticket(moved)
        self._lines.setdefault(tenant, deque()).append(ticket)
        self._waiting.inc()
        self._tell_soon()
        try:
            await ticket.granted
        except asyncio.CancelledError:
            if ticket.granted.cancelled():
                self._leave(tenant, ticket)
            else:
                self.give_back(tenant)
            raise
        moved(0)

    def _hand_out(self, *, returning: str) -> None:
        while True:
            ready = [one for one in self._lines if self._may_have(one, returning=returning)]
            if not ready:
                break
            # The first of several that have equally few.
            tenant = min(ready, key=self._taken.__getitem__)
            line = self._lines.pop(tenant)
            ticket = line.popleft()
            if line:
                # Behind all others.
                self._lines[tenant] = line
            self.take(tenant)
            self._waiting.dec()
            ticket.granted.set_result(None)
        self._tell_soon()

    def _leave(self, tenant: str, ticket: _Ticket) -> None:
        line = self._lines[tenant]
        line.remove(ticket)
        if not line:
            del self._lines[tenant]
        self._waiting.dec()
        self._tell_soon()

    def _tell_soon(self) -> None:
        if self._telling is None:
            loop = asyncio.get_running_loop()
            self._telling = loop.call_later(_TELL_SECONDS, self._tell)

    def _tell(self) -> None:
        self._telling = None
        # As the slots would be handed out if none were given back.
        order = sorted(
            (self._taken[tenant] + index, turn, ticket)
            for turn, (tenant, line) in enumerate(self._lines.items())
            for index, ticket in enumerate(line)
        )
        for position, (_, _, ticket) in enumerate(order, start=1):
            if ticket.position != position:
                ticket.position = position
                ticket.moved(position)
