"""Turns the signals that end a process into an event.

Does not know what is to be ended.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)

_ONE_SIGNAL_SECONDS = 0.3


@contextmanager
def stop_signal(leave: Callable[[int], object] = os._exit) -> Iterator[asyncio.Event]:
    """Yield an event that SIGTERM and SIGINT set.

    A signal of the same kind again ends the process, unless it comes at once: some
    programs signal both a process and its group. One of the other kind does not:
    Ctrl-C reaches the whole group, and then a supervisor sends SIGTERM.

    Args:
        leave: Ends the process, given its exit code.
    """
    stop = asyncio.Event()
    seen: dict[int, float] = {}
    loop = asyncio.get_running_loop()

    def receive(number: int) -> None:
        first = seen.setdefault(number, loop.time())
        if loop.time() - first > _ONE_SIGNAL_SECONDS:
            log.warning("forced to stop")
            leave(128 + number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, receive, number)
    try:
        yield stop
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
