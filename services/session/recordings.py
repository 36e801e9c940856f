"""Creations and cancellations that callers wait for, until they are durable.

Does not know what is done with a turn.
"""

from __future__ import annotations

import asyncio

from services.session.log import Log
from services.session.records import TurnRecord


class Recordings:
    """The appends that make one agent's turns what callers are told they are.

    Args:
        log: The agent's log.
    """

    __slots__ = ("_appends", "_log")

    def __init__(self, *, log: Log) -> None:
        self._log = log
        self._appends: dict[str, asyncio.Future[None]] = {}

    def add(self, turn_id: str, append: asyncio.Future[None]) -> None:
        """Add a turn's newest append; it is forgotten once it has ended."""
        self._appends[turn_id] = append

        def forget(done: asyncio.Future[None]) -> None:
            if self._appends.get(turn_id) is done:
                del self._appends[turn_id]

        append.add_done_callback(forget)

    async def wait(self, turn: TurnRecord) -> None:
        """Wait until a turn is durable, and its end when it is shown as ended.

        Raises:
            Failure: STORE_UNAVAILABLE, FENCED.
        """
        append = self._appends.get(turn.name.turn)
        if append is not None:
            await self._log.durable(append)
        if turn.final:
            await self._log.caught_up()
