"""Tests of `services.chassis.rendezvous`."""

from __future__ import annotations

from services.chassis.rendezvous import ranked

PODS = [f"10.0.0.{number}:7000" for number in range(1, 6)]
USERS = [f"users/u{number}" for number in range(2_000)]


def test_everybody_ranks_alike() -> None:
    """The order depends on neither the process nor the order of what is ranked."""
    assert ranked("users/ada", PODS) == ranked("users/ada", [*reversed(PODS), PODS[0]])
    # Written down once: another process, with another seed of `hash`, found the same.
    assert ["c:1", "b:1", "a:1"] == ranked("users/ada", ["a:1", "b:1", "c:1"])
    assert [] == ranked("users/ada", [])


def test_keys_are_spread_evenly() -> None:
    """Each of five is the first choice of a fifth, and the second choices differ too."""
    for place in (0, 1):
        shares = [sum(ranked(user, PODS)[place] == pod for user in USERS) for pod in PODS]

        assert all(320 < share < 480 for share in shares)


def test_an_address_that_leaves_moves_its_own_keys_only() -> None:
    """The others keep their first choice, and its keys go to their second."""
    for user in USERS:
        before = ranked(user, PODS)

        assert ranked(user, PODS[1:]) == [pod for pod in before if pod != PODS[0]]
