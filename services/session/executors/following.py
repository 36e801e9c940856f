"""Follows the executions of one turn, one after the other.

Does not know what they tell, nor how the turn goes on when one is lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

from services.chassis.backoff import Backoff
from services.chassis.failures import Failure
from services.session.executors.deliveries import PASSING
from services.session.executors.executor import Executors, Listener, Subscription
from services.session.executors.patience import Patience
from services.session.records import TurnRecord

_TRY = timedelta(seconds=12)
"""Longer than one try to follow an execution takes, its pause included."""


class Following:
    """The way from a turn's executions to who listens.

    Args:
        executors: Who runs them.
        turn: The turn; its `executor` and `execution` say what is followed.
        unreachable: How long an executor that does not answer is asked.
    """

    __slots__ = ("_addresses", "_executors", "_over", "_turn", "_unreachable")

    def __init__(self, *, executors: Executors, turn: TurnRecord, unreachable: timedelta) -> None:
        self._executors = executors
        self._turn = turn
        self._unreachable = unreachable
        # Where each execution was followed, by its id.
        self._addresses: dict[str, str] = {}
        # Set while one is followed; a failure on it says that it is lost.
        self._over: asyncio.Future[None] | None = None

    async def follow(self, listener: Listener, *, begun: Callable[[], None]) -> None:
        """Follow the turn's execution until `end`.

        Args:
            listener: Hears what happens.
            begun: Called when the executor has answered.

        Raises:
            Failure: It is lost, or whatever `lose` was called with.
        """
        self._over = asyncio.get_running_loop().create_future()
        # Looked at, so that a failure beside the one that is raised does not warn.
        self._over.add_done_callback(lambda future: future.cancelled() or future.exception())
        subscription: Subscription | None = None
        try:
            subscription = await self._subscribe(listener)
            begun()
            # No time limit: a turn may take days. The executor limits it, and
            # tells us itself when it cannot be reached any more.
            await self._over
        finally:
            self._over = None
            if subscription is not None:
                subscription.close()

    def end(self) -> None:
        """Follow no more: the outcome is there."""
        if self._over is not None and not self._over.done():
            self._over.set_result(None)

    def lose(self, failure: Failure) -> None:
        """Follow no more: nothing will come although the outcome has not."""
        if self._over is not None and not self._over.done():
            self._over.set_exception(failure)

    def acknowledge(self, execution: str, sequence: int, *, at_once: bool) -> None:
        """Tell the executor of an execution what is durable."""
        address = self._addresses.get(execution)
        if address:
            self._executors.acknowledge(address, execution, sequence, at_once=at_once)

    async def _subscribe(self, listener: Listener) -> Subscription:
        backoff = Backoff()
        patience = Patience(whole=self._unreachable, step=_TRY)
        turn = self._turn
        self._addresses[turn.execution] = turn.executor
        while True:
            try:
                return await self._executors.subscribe(turn.executor, turn.execution, listener)
            except Failure as failure:
                if failure.reason not in PASSING or patience.over():
                    raise
            await backoff.pause()
