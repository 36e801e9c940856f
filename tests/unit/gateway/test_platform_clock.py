"""Tests of `services.gateway.platform_clock`."""

from __future__ import annotations

from services.gateway.platform_clock import PlatformClock
from tests.unit.gateway.fakes import FakeClock


def test_the_machines_clock_counts_until_the_time_is_told() -> None:
    """From then on it may be an hour off, or be set, and nothing changes."""
    monotonic, wall = FakeClock(10), FakeClock(1_700_003_600)
    clock = PlatformClock(monotonic=monotonic, wall=wall)
    assert 1_700_003_600 == clock()
    clock.told(1_700_000_000)
    wall.now = 0
    monotonic.now += 5

    assert 1_700_000_005 == clock()


def test_late_news_do_not_set_it_back() -> None:
    """What was read after a standstill was sent before it."""
    monotonic = FakeClock(10)
    clock = PlatformClock(monotonic=monotonic, wall=FakeClock())
    clock.told(1000)
    monotonic.now += 30
    clock.told(1010)

    assert 1030 == clock()


def test_a_database_whose_clock_was_set_is_followed_in_the_end() -> None:
    """When it says the same again and again."""
    monotonic = FakeClock(10)
    clock = PlatformClock(monotonic=monotonic, wall=FakeClock())
    clock.told(1000)
    for _ in range(16):
        clock.told(900)

    assert 900 == clock()
