"""Tests of `services.session.clock`: the database's time between its answers."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

from services.session.clock import DatabaseClock, stopwatch

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)


class Monotonic:
    """A monotonic clock in the test's hands."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        """Return its seconds."""
        return self.seconds


@pytest.fixture
def monotonic() -> Monotonic:
    """The clock that carries time forward."""
    return Monotonic()


@pytest.fixture
def clock(monotonic: Monotonic) -> DatabaseClock:
    """A clock that the database has told it is noon."""
    clock = DatabaseClock(monotonic=monotonic)
    clock.observe(NOON)
    return clock


def test_it_goes_on_by_itself(clock: DatabaseClock, monotonic: Monotonic) -> None:
    """Between two answers time is carried by the monotonic clock."""
    monotonic.seconds += 5

    assert NOON + timedelta(seconds=5) == clock.now()


def test_an_answer_that_took_its_time_changes_nothing(
    clock: DatabaseClock, monotonic: Monotonic
) -> None:
    """The estimate that is ahead is the better one."""
    monotonic.seconds += 5
    clock.observe(NOON + timedelta(seconds=4.8))

    assert NOON + timedelta(seconds=5) == clock.now()


def test_a_better_answer_moves_it_forward(clock: DatabaseClock, monotonic: Monotonic) -> None:
    """The database knows."""
    monotonic.seconds += 5
    clock.observe(NOON + timedelta(seconds=6))

    assert NOON + timedelta(seconds=6) == clock.now()


def test_it_waits_for_a_database_that_was_set_back(
    clock: DatabaseClock, monotonic: Monotonic
) -> None:
    """It follows, and meanwhile stands still."""
    assert NOON == clock.now()
    clock.observe(NOON - timedelta(hours=1))
    assert NOON == clock.now()

    monotonic.seconds += 3601

    assert NOON + timedelta(seconds=1) == clock.now()


def test_the_stopwatch_runs_while_the_machine_is_suspended() -> None:
    """As far as the system has such a clock: a lease expires then, too."""
    before = time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))

    assert 0 <= stopwatch() - before < 5
