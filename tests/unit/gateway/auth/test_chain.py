"""Tests of `services.gateway.auth.chain`."""

from __future__ import annotations

import pytest

from moorline.errors.v1 import errors_pb2
from services.chassis.failures import Failure
from services.gateway.auth.chain import MAX_TOKEN_CHARACTERS, Chain
from services.gateway.auth.verifier import Principal
from tests.unit.gateway.fakes import ADA, FakeVerifier


async def test_the_first_that_accepts_decides() -> None:
    """Later ones are not asked."""
    first, second = FakeVerifier(), FakeVerifier({"t": ADA})
    third = FakeVerifier({"t": Principal(user="users/eve")})

    assert ADA == await Chain(verifiers=[first, second, third]).verify("t")
    assert (["t"], []) == (first.asked, third.asked)


async def test_a_token_nobody_knows_is_invalid() -> None:
    """Also when there is nobody to ask."""
    for verifiers in ([FakeVerifier()], []):
        with pytest.raises(Failure) as raised:
            await Chain(verifiers=verifiers).verify("t")
        assert "TOKEN_INVALID" == raised.value.reason_name


async def test_one_that_cannot_tell_ends_the_search() -> None:
    """Else a token of its own would be called wrong."""
    unsure = FakeVerifier({"t": Failure(errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE, "gone")})
    with pytest.raises(Failure) as raised:
        await Chain(verifiers=[unsure, FakeVerifier({"t": ADA})]).verify("t")

    assert "SERVICE_UNAVAILABLE" == raised.value.reason_name


async def test_an_endless_token_is_not_looked_at() -> None:
    """Nobody has to hash megabytes."""
    verifier = FakeVerifier()
    with pytest.raises(Failure):
        await Chain(verifiers=[verifier]).verify("t" * (MAX_TOKEN_CHARACTERS + 1))

    assert [] == verifier.asked
