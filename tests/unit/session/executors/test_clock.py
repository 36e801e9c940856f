"""Tests of `services.session.executors.clock`: an executor's times in the database's."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from services.session.clock import DatabaseClock
from services.session.executors.clock import ExecutorClock

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)


class Monotonic:
    """A clock in the test's hands."""

    seconds = 5.0

    def __call__(self) -> float:
        """Return its seconds."""
        return self.seconds


@pytest.fixture
def monotonic() -> Monotonic:
    """Our clock; it is noon at the database when it shows 5."""
    return Monotonic()


@pytest.fixture
def database(monotonic: Monotonic) -> DatabaseClock:
    """The database's clock."""
    database = DatabaseClock(monotonic=monotonic)
    database.observe(NOON)
    return database


@pytest.fixture
def clock(database: DatabaseClock, monotonic: Monotonic) -> ExecutorClock:
    """An executor's clock nothing is known of."""
    return ExecutorClock(database=database, monotonic=monotonic)


def test_a_clock_nothing_is_known_of_is_not_believed(clock: ExecutorClock) -> None:
    """What it says happened now."""
    assert NOON == clock.translate(NOON + HOUR) == clock.translate(NOON - HOUR)


@pytest.mark.parametrize("error", [HOUR, timedelta(0), -HOUR])
def test_a_clock_an_hour_off_changes_nothing(
    clock: ExecutorClock, monotonic: Monotonic, error: timedelta
) -> None:
    """Not now, and not for what happened before or long after it was told."""
    clock.observe(NOON + error)
    monotonic.seconds += 100

    assert NOON + 100 * SECOND == clock.translate(NOON + error + 100 * SECOND)
    assert NOON + 40 * SECOND == clock.translate(NOON + error + 40 * SECOND)
    assert NOON - HOUR == clock.translate(NOON + error - HOUR)


def test_nothing_happens_later_than_now(clock: ExecutorClock) -> None:
    """Whatever a clock that has stepped says."""
    clock.observe(NOON)

    assert NOON == clock.translate(NOON + HOUR)


def test_a_late_response_is_worth_less_than_a_quick_one(
    clock: ExecutorClock, monotonic: Monotonic
) -> None:
    """Of two estimates the one that took less time on its way counts."""
    clock.observe(NOON)
    monotonic.seconds += 10
    clock.observe(NOON + 9.5 * SECOND)

    assert NOON + 10 * SECOND == clock.translate(NOON + 10 * SECOND)


@pytest.mark.parametrize("step", [HOUR, -HOUR])
def test_a_clock_that_steps_is_followed(
    clock: ExecutorClock, monotonic: Monotonic, step: timedelta
) -> None:
    """As is that of another process at the same address."""
    clock.observe(NOON)
    monotonic.seconds += 10
    clock.observe(NOON + 10 * SECOND + step)
    monotonic.seconds += 5

    assert NOON + 12 * SECOND == clock.translate(NOON + 12 * SECOND + step)
