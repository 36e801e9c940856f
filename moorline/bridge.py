"""Runs coroutines on a loop of its own, for callers that have none.

Knows nothing of what it runs.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Bridge:
    """One event loop on one background thread, until `close()`."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        # Daemon: a program that forgets to close its client can still end.
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="moorline client", daemon=True
        )
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end and return its value.

        Waits as long as the coroutine does; interrupted (Ctrl-C), it cancels it.

        Raises:
            RuntimeError: The bridge is closed, or this is its own thread.
        """
        if not self._thread.is_alive() or threading.current_thread() is self._thread:
            coroutine.close()
            message = "The client is closed, or called from inside itself."
            raise RuntimeError(message)
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            concurrent.futures.wait([future], timeout=1)
            raise

    def close(self) -> None:
        """Stop the loop and its thread; doing it again changes nothing."""
        if not self._thread.is_alive():
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()
