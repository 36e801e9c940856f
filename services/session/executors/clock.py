"""An executor's clock, as far as what it says about it tells.

Pods' clocks may be wrong by an hour; what users see must not be. Does not read
any wall clock.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from services.session.clock import DatabaseClock

_STEP_BACK = timedelta(seconds=1)


class ExecutorClock:
    """Turns one executor's times into the database's.

    Args:
        database: The database's time.
        monotonic: Seconds of a clock that never steps.
    """

    __slots__ = ("_database", "_monotonic", "_zero")

    def __init__(self, *, database: DatabaseClock, monotonic: Callable[[], float]) -> None:
        self._database = database
        self._monotonic = monotonic
        # What the executor's clock showed when ours was zero; None before it told.
        self._zero: datetime | None = None

    def observe(self, instant: datetime) -> None:
        """Take in the time that the executor has just sent."""
        zero = instant - timedelta(seconds=self._monotonic())
        # A response is as old as its way here, so the greatest estimate is the best;
        # one far below it means that the clock was set back, or is another one.
        if self._zero is None or zero > self._zero or zero < self._zero - _STEP_BACK:
            self._zero = zero

    def translate(self, instant: datetime) -> datetime:
        """Return when the database's clock showed what the executor's called `instant`."""
        now = self._database.now()
        if self._zero is None:
            return now
        age = self._zero + timedelta(seconds=self._monotonic()) - instant
        return now - max(age, timedelta(0))
