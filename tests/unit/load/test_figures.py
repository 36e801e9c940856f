"""Figures and how they travel."""

from __future__ import annotations

import orjson
import pytest

from tests.load.figures import Latency, Replay, dump, parse, percentile
from tests.unit.load.samples import figures, latency, operations, stream


@pytest.mark.parametrize(
    ("share", "expected"), [(0, 1), (0.01, 1), (0.5, 50), (0.99, 99), (0.991, 100), (1, 100)]
)
def test_a_percentile_is_the_smallest_value_that_covers_the_share(
    share: float, expected: int
) -> None:
    """Nearest rank, without interpolation."""
    assert expected == percentile(range(1, 101), share)


def test_a_percentile_of_nothing_is_zero() -> None:
    """A measure without samples still renders."""
    assert percentile([], 0.5) == 0
    assert Latency(count=0, p50_ms=0, p99_ms=0, max_ms=0) == Latency.of_microseconds([])


def test_a_latency_sums_up_microseconds() -> None:
    """Samples come in any order and in microseconds."""
    expected = Latency(count=3, p50_ms=2.0, p99_ms=3.0, max_ms=3.0)

    assert expected == Latency.of_microseconds([3000, 1000, 2000])


def test_rates_are_derived() -> None:
    """The held share, the sum of CPU and the events a second follow from the figures."""
    assert stream(10, rate=200.0).held == 0.5
    assert stream(10, offered=0.0).held == 1.0
    assert stream(10).cpu_us_sum == 40.0
    assert Replay(events=1000, bytes=1, duration=latency(20.0)).events_per_second == 50_000
    assert Replay(events=1000, bytes=1, duration=latency(0.0)).events_per_second == 0


def test_figures_survive_json() -> None:
    """What was written is what is read."""
    assert figures() == parse(dump(figures()))
    partial = figures(saturated=None, paced=(), memory=(), turns=(), replay=(), shared=None)
    assert partial == parse(dump(partial))


def test_figures_from_before_the_shared_database_can_be_read() -> None:
    """They have no member for it."""
    old = orjson.loads(dump(figures(shared=None)))
    del old["shared"]

    assert figures(shared=None) == parse(orjson.dumps(old))


def test_a_price_follows_from_the_documents() -> None:
    """Forty writes, twenty reads and a deletion of each of 1,000 turns."""
    assert operations(40.0).price == pytest.approx(0.036 + 0.006 + 0.0001)
