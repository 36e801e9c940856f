"""Threads for what has to wait for a disk. Does not know what is done there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

THREADS = 4
"""Uses of the disk at once."""
SHARE = 2
"""Of those, for one workspace: whoever fills a folder with files makes only himself wait."""


class Disk:
    """Runs functions in threads, few at a time and fewer for each workspace.

    Inside `async with`; the end waits for what still runs.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(max_workers=THREADS, thread_name_prefix="files")
        # Of workspaces with something going on, with how many have or want a share.
        self._shares: dict[str, tuple[asyncio.Semaphore, int]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Wait for the threads; what has not begun never does."""
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)

    async def run(
        self, workspace: str, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Call a function in a thread, when it is the workspace's turn.

        Cancelling leaves a function that has begun running; it keeps its share until it ends.
        """
        share, holders = self._shares.get(workspace) or (asyncio.Semaphore(SHARE), 0)
        self._shares[workspace] = (share, holders + 1)
        try:
            await share.acquire()
        except asyncio.CancelledError:
            self._leave(workspace)
            raise
        work = self._threads.submit(function, *args, **kwargs)
        loop = asyncio.get_running_loop()

        def over(_: Future[Any]) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._give_back, workspace, share)

        work.add_done_callback(over)
        return await asyncio.wrap_future(work)

    def _give_back(self, workspace: str, share: asyncio.Semaphore) -> None:
        share.release()
        self._leave(workspace)

    def _leave(self, workspace: str) -> None:
        share, holders = self._shares.pop(workspace)
        if holders > 1:
            self._shares[workspace] = (share, holders - 1)
