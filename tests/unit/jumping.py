"""An event loop whose time passes only where everything waits, and then at once.

For tests of what happens when, without a socket or a thread: a busy machine changes nothing.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from typing import Any, TypeAlias

Factories: TypeAlias = dict[str, Callable[[], asyncio.AbstractEventLoop]]
"""What `pytest_asyncio_loop_factories` returns: how to make a test's loop, by its name."""


class JumpingLoop(asyncio.SelectorEventLoop):
    """Begins at 0 s; sleeping takes no time, and `time` says that it took all of it."""

    def __init__(self) -> None:
        self._now = 0.0
        super().__init__(_Selector(self))

    def time(self) -> float:
        """Return the seconds that were slept."""
        return self._now

    def jump(self, seconds: float) -> None:
        """Let so much time pass."""
        self._now += seconds


class _Selector(selectors.DefaultSelector):
    """Asks what has happened, and jumps to the next timer when nothing has."""

    def __init__(self, loop: JumpingLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, Any]]:
        ready = super().select(None if timeout is None else 0)
        if timeout and not ready:
            self._loop.jump(timeout)
        return ready


def loops(*, jumping: bool) -> Factories:
    """Return how to make the loop of a test: one whose time jumps, or the usual one."""
    return {"jumping": JumpingLoop} if jumping else {"asyncio": asyncio.new_event_loop}
