"""A connection that remembers when news came, so that it can tell how long there was none.

Does not know why there is none.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import Self

from tests.load import client
from tests.load.connection import Account, Connection, Recorder

ENDLESS_WORDS = 1_000_000


class Follower(Connection):
    """One user's connection, whose agent streams until it is stopped."""

    def __init__(self, *, account: Account, agent: str, recorder: Recorder) -> None:
        super().__init__(account=account, agent=agent, recorder=recorder)
        self._arrivals: list[float] = []
        self._name = ""

    @classmethod
    async def begin(cls, *, url: str, account: Account) -> Self:
        """Connect, and follow a new agent."""
        follower = await cls.open(
            url=url, account=account, agent=client.turn_id(), recorder=Recorder()
        )
        await follower.watch()
        return follower

    async def stream(self, pause_ms: int) -> None:
        """Start a turn that goes on until it is stopped."""
        self._arrivals.clear()
        turn = client.turn_id()
        self._name = f"{self.account.user}/agents/{self.agent}/turns/{turn}"
        await self.start_turn(turn, f"/sim clock {ENDLESS_WORDS} {pause_ms}")

    async def stop(self) -> None:
        """Cancel the turn, and wait for its end."""
        await self.request("cancelTurn", {"name": self._name})
        try:
            await self.turn_end(client.DRAIN_SECONDS)
        except RuntimeError as error:
            # A cancelled turn is no finished one.
            if "CANCELLED" not in str(error):
                raise

    async def heard(self, *, after: float) -> None:
        """Wait for news that come after an instant."""
        while not self._arrivals or self._arrivals[-1] < after:  # noqa: ASYNC110 - cheap
            await asyncio.sleep(0.05)

    def silence_after(self, instant: float) -> float:
        """Seconds from an instant to the end of the longest silence that ends after it."""
        pairs = [pair for pair in itertools.pairwise(self._arrivals) if pair[1] > instant]
        return max(pairs, key=lambda pair: pair[1] - max(pair[0], instant))[1] - instant

    def _watched(self, now: int, payload: bytes) -> None:
        words = self.counter.words
        super()._watched(now, payload)
        if self.counter.words != words:
            self._arrivals.append(time.time())
