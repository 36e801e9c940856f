"""An event loop whose clock moves only when nothing is left to do.

Minutes of waiting take no time, and the same steps always happen in the same
order. Nothing but timers may be waited for: no thread, no socket.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from typing import Any, TypeVar

T = TypeVar("T")


class _Leaping(selectors.SelectSelector):
    """A selector that skips the time it was told to wait."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000.0

    def select(self, timeout: float | None = None) -> list[Any]:
        """Return at once, that much later.

        Raises:
            RuntimeError: There is nothing that time would bring.
        """
        if timeout is None:
            raise RuntimeError("everything waits for something that cannot come")
        self.now += max(0.0, timeout)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time, which begins at 1,000 s.

    Attributes:
        context: What tasks begin with that `begin` and `finish` make.
    """

    def __init__(self) -> None:
        self._leaping = _Leaping()
        self.context = copy_context()
        super().__init__(self._leaping)

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self._leaping.now

    def begin(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Make a task with the loop's context."""
        return self.create_task(coroutine, context=self.context.copy())

    def finish(self, coroutine: Coroutine[Any, Any, T], *, within: float) -> T:
        """Run until something is done, at most so many virtual seconds."""
        return self.run_until_complete(self.begin(asyncio.wait_for(coroutine, within)))

    def act(self, action: Callable[[], object]) -> None:
        """Do something from within the loop."""

        async def act() -> None:
            action()

        self.finish(act(), within=1)

    def advance(self, seconds: float) -> None:
        """Let virtual time pass."""
        self.run_until_complete(asyncio.sleep(seconds))
