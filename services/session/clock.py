"""The database's time, known between two answers of the database, and the stopwatch for it.

Pods' clocks may be wrong by an hour; what users see must not be. Does not read
any wall clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

_STEP_BACK = timedelta(seconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_STOPWATCH = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""On Linux the other one stands still while the machine is suspended; elsewhere there is one."""


def stopwatch() -> float:
    """Return seconds that never step, and that pass while the machine is suspended."""
    return time.clock_gettime(_STOPWATCH)


class DatabaseClock:
    """Carries the database's time forward with a monotonic clock.

    Args:
        monotonic: Seconds of a clock that never steps.
    """

    __slots__ = ("_last", "_monotonic", "_zero")

    def __init__(self, *, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._zero = _EPOCH
        self._last = _EPOCH

    def observe(self, instant: datetime) -> None:
        """Take in a time that the database has just given."""
        zero = instant - timedelta(seconds=self._monotonic())
        # An answer is as old as its way here, so the greatest estimate is the
        # best; one far below it means that the database's clock was set back.
        if zero > self._zero or zero < self._zero - _STEP_BACK:
            self._zero = zero

    def now(self) -> datetime:
        """Return the database's time; never earlier than the last answer."""
        self._last = max(self._last, self._zero + timedelta(seconds=self._monotonic()))
        return self._last
