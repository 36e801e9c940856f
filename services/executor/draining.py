"""How an executor ends what it does: executions, their followers, and the agent processes.

Does not know the server that stops afterwards.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any

from services.executor.executions import Executions
from services.executor.following import ExecutionFeeds

log = logging.getLogger(__name__)

ACKNOWLEDGED_WITHIN = timedelta(minutes=1)
"""Longer than a user is without an owner, and than a session waits for an executor that is away."""
ENDED_WITHIN = timedelta(seconds=2)
"""For sending followers away and killing agent processes."""
TOLD_WITHIN = timedelta(seconds=0.3)
"""In which whoever followed a feed hears of its end."""


async def drain(executions: Executions, feeds: ExecutionFeeds, *, whole: timedelta) -> None:
    """Let executions end by themselves, send the followers away, and end what still runs.

    Cancelled, it does the rest all the same, in the time that is set aside for it.

    Args:
        executions: What runs.
        feeds: Where it is followed.
        whole: All the time there is.

    Raises:
        TimeoutError: The end took too long.
    """
    executions.drain()
    patience = whole - min(ENDED_WITHIN, whole / 2)
    try:
        async with asyncio.timeout(patience.total_seconds()):
            await executions.over(patience=ACKNOWLEDGED_WITHIN)
    except TimeoutError:
        log.warning("executions still run, and are ended")
    finally:
        # Whoever limits the whole may cut it off in the same moment, or soon: where the machine
        # stood still, all deadlines of that time have passed.
        await _whatever_comes(_end(executions, feeds, within=whole - patience))


async def _whatever_comes(end: Coroutine[Any, Any, None]) -> None:
    ending = asyncio.ensure_future(end)
    try:
        await asyncio.shield(ending)
    except asyncio.CancelledError:
        await ending
        raise


async def _end(executions: Executions, feeds: ExecutionFeeds, *, within: timedelta) -> None:
    # The followers first: they must not be told of outcomes that are only our end.
    executions.close()
    async with asyncio.timeout(within.total_seconds()):
        await _send_away(feeds)
        await executions.kill()


async def _send_away(feeds: ExecutionFeeds) -> None:
    followed = len(feeds)
    await feeds.drain()
    if followed:
        # Whoever asks before hearing of the end is told of it, too: cut off, they could not
        # know whether they had begun an execution.
        await asyncio.sleep(TOLD_WITHIN.total_seconds())
