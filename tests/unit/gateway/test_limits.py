"""Tests of `services.gateway.limits`."""

from __future__ import annotations

from datetime import timedelta

from services.gateway.limits import Limits, TokenBucket


def test_a_bucket_lets_a_burst_pass_and_then_the_rate() -> None:
    """After the burst, one more passes each time a token has come back."""
    bucket = TokenBucket(rate=2, burst=3, now=0.0)

    assert [True, True, True, False] == [bucket.take(0.0) for _ in range(4)]
    assert timedelta(seconds=0.5) == bucket.wait()
    assert [True, False] == [bucket.take(0.5) for _ in range(2)]


def test_a_bucket_never_holds_more_than_its_burst() -> None:
    """A long silence earns no more than the burst."""
    bucket = TokenBucket(rate=100, burst=2, now=0.0)

    assert [True, True, False] == [bucket.take(1000.0) for _ in range(3)]


def test_a_bucket_with_a_token_asks_for_no_wait() -> None:
    """Nothing to wait for is zero."""
    assert timedelta(0) == TokenBucket(rate=1, burst=1, now=0.0).wait()


def test_clients_are_told_the_limits() -> None:
    """The message carries every limit that a client can mind."""
    message = Limits(frame_bytes=1000, watches=3).to_message()

    assert (1000, 3, 32, 20, 60) == (
        message.frame_bytes,
        message.watches,
        message.calls_in_flight,
        message.frames_per_second,
        message.frames_burst,
    )
