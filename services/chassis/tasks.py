"""The owner of background tasks: none outlives it, none fails in silence.

Does not know what the tasks do, and does not restart them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from datetime import timedelta
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")

log = logging.getLogger(__name__)


class Tasks:
    """Owns tasks from `spawn` until they end, or until its own end cancels them.

    An exception that leaves a task is a bug; it is logged with its traceback and
    concerns no other task.

    Args:
        patience: How long to wait at the end for tasks that were cancelled.
    """

    def __init__(self, *, patience: timedelta = timedelta(seconds=5)) -> None:
        self._patience = patience.total_seconds()
        self._tasks: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        await self.close()

    async def close(self) -> None:
        """Cancel what runs and wait for it, within the patience.

        For owners that are no context managers themselves.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._patience
        # More than one round, because a task may spawn another while it ends.
        while self._tasks and (left := deadline - loop.time()) > 0:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(set(self._tasks), timeout=left)
        for task in self._tasks:
            log.error("task did not stop", extra={"task": task.get_name()})

    def __len__(self) -> int:
        return len(self._tasks)

    def spawn(self, coro: Coroutine[Any, Any, T], *, name: str) -> asyncio.Task[T]:
        """Run a coroutine as a task until it ends or this object does.

        Args:
            coro: What to run.
            name: The same for all tasks of a kind; it goes to the log.
        """
        task = asyncio.get_running_loop().create_task(coro, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("task failed", exc_info=error, extra={"task": task.get_name()})
