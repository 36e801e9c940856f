"""Calls that must reach the executor, however long it is away.

Does not know what the calls are about.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

from moorline.errors.v1 import errors_pb2
from services.chassis.failures import Failure
from services.chassis.tasks import Tasks

log = logging.getLogger(__name__)

PASSING = frozenset(
    {
        errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE,
        errors_pb2.ERROR_REASON_DRAINING,
        errors_pb2.ERROR_REASON_CALL_TIMEOUT,
        errors_pb2.ERROR_REASON_EXECUTOR_CAPACITY,
    }
)
"""Reasons after which the same call to the executor may succeed."""

FIRST_DELAY = 0.05
"""Seconds before the first repetition."""

_LAST_DELAY = 1.0


async def pause(delay: float) -> float:
    """Wait about `delay` seconds before a repetition; return the delay after it."""
    await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311
    return min(_LAST_DELAY, delay * 2)


class Deliveries:
    """Repeats calls until they are answered or no longer wanted.

    Args:
        tasks: Owns the tasks that repeat.
    """

    def __init__(self, *, tasks: Tasks) -> None:
        self._tasks = tasks

    def send(self, call: Callable[[], Awaitable[None]], wanted: Callable[[], bool]) -> None:
        """Make a call in the background until the executor has answered it.

        Args:
            call: The call; safe to repeat.
            wanted: Asked before each repetition.
        """
        self._tasks.spawn(self._repeat(call, wanted), name="delivery")

    async def _repeat(
        self, call: Callable[[], Awaitable[None]], wanted: Callable[[], bool]
    ) -> None:
        delay = FIRST_DELAY
        while True:
            try:
                await call()
            except Failure as failure:
                if failure.reason not in PASSING:
                    # The execution is gone, which its subscription tells too.
                    log.info("not delivered", extra={"reason": failure.reason_name})
                    return
            else:
                return
            delay = await pause(delay)
            if not wanted():
                return
