"""Turns the signals that end a process into an event."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def stop_signal() -> Iterator[asyncio.Event]:
    """Yield an event that SIGTERM and SIGINT set.

    The same signal a second time ends the process at once. The other one does not:
    Ctrl-C reaches a whole process group, and then a supervisor sends SIGTERM.
    """
    stop = asyncio.Event()
    seen: set[int] = set()
    loop = asyncio.get_running_loop()

    def receive(number: int) -> None:
        if number in seen:
            log.warning("forced to stop")
            os._exit(128 + number)
        seen.add(number)
        stop.set()

    for number in _SIGNALS:
        loop.add_signal_handler(number, receive, number)
    try:
        yield stop
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
