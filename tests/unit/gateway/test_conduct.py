"""Tests of `services.gateway.conduct`."""

from __future__ import annotations

from datetime import timedelta

from services.gateway.conduct import ABUSE_FRAMES, BAD_MESSAGES, Conduct
from services.gateway.limits import Limits

LIMITS = Limits(frames_per_second=10, frames_burst=2)


def flooded() -> Conduct:
    """A client whose burst is used up at time 0."""
    conduct = Conduct(limits=LIMITS, now=0.0)
    assert conduct.allows(0.0)
    assert conduct.allows(0.0)
    return conduct


def test_a_burst_is_no_abuse() -> None:
    """A frame too many is refused, and that is all."""
    conduct = flooded()

    assert not conduct.allows(0.0)
    assert not conduct.abusive
    assert timedelta(seconds=0.1) == conduct.wait


def test_going_on_for_longer_than_five_seconds_is_abuse() -> None:
    """Refusals that do not end say that the client ignores them."""
    conduct = flooded()
    for step in range(60):
        for _ in range(3):
            conduct.allows(step * 0.1)

    assert conduct.abusive


def test_floods_with_a_pause_between_them_are_counted_apart() -> None:
    """A client that has calmed down starts anew."""
    conduct = flooded()
    assert not conduct.allows(0.0)
    assert [True, True, False] == [conduct.allows(60.0) for _ in range(3)]

    assert not conduct.abusive


def test_a_great_many_at_once_are_abuse() -> None:
    """Nobody has to be listened to for five seconds at any rate."""
    conduct = flooded()
    for _ in range(ABUSE_FRAMES + 1):
        conduct.allows(0.0)

    assert conduct.abusive


def test_bad_messages_are_forgiven_when_they_are_few() -> None:
    """Ten in ten seconds pass, the next does not; old ones are forgotten."""
    conduct = Conduct(limits=LIMITS, now=0.0)

    assert all(conduct.forgives(1.0) for _ in range(BAD_MESSAGES))
    assert not conduct.forgives(2.0)
    assert conduct.forgives(30.0)
