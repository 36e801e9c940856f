"""Tests of `services.gateway.auth.keys`, with a session service on a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from moorline.session.v1 import keys_pb2
from services.chassis.failures import Failure
from services.gateway.auth.keys import KeyVerifier
from services.gateway.auth.verifier import Principal
from tests.unit.chassis.service import peer_of
from tests.unit.gateway.fakes import FakeClock
from tests.unit.gateway.session_api import KEY, SECRET, FakeSession, fake_session

PRINCIPAL = Principal(user="users/ada", key=KEY)


@asynccontextmanager
async def setting() -> AsyncIterator[tuple[FakeSession, KeyVerifier, FakeClock]]:
    """Yield the service, a verifier that asks it, and the verifier's clock."""
    clock = FakeClock()
    async with fake_session() as session, peer_of(session.target) as peer:
        yield session, KeyVerifier(peer=peer, clock=clock, monotonic=clock), clock


async def refused(verifier: KeyVerifier, secret: str = SECRET) -> bool:
    """True when a secret is refused as invalid."""
    try:
        await verifier.verify(secret)
    except Failure as failure:
        return failure.reason_name == "TOKEN_INVALID"
    return False


async def test_a_good_key_names_its_user() -> None:
    """And itself, so that what it opened can be revoked."""
    async with setting() as (session, verifier, _):
        assert PRINCIPAL == await verifier.verify(SECRET)
        assert [("VerifyKey", "services/gateway")] == [
            (name, identity.user) for name, identity in session.asked
        ]


async def test_a_good_key_is_believed_in_for_five_seconds() -> None:
    """Revoking shows no later than that."""
    async with setting() as (session, verifier, clock):
        await verifier.verify(SECRET)
        session.keys[SECRET].revoke_time.GetCurrentTime()
        clock.now += 4.9
        assert not await refused(verifier)
        clock.now += 0.2

        assert await refused(verifier)
        assert 2 == len(session.asked)


async def test_a_bad_key_is_asked_about_once_a_second() -> None:
    """A new one works soon, and a guesser costs little."""
    async with setting() as (session, verifier, clock):
        other = "moorline_bbbbbbbb_" + "y" * 32
        assert await refused(verifier, other)
        assert await refused(verifier, other)
        session.keys[other] = keys_pb2.Key(name="users/ada/keys/bbbbbbbb")
        clock.now += 1.1

        assert not await refused(verifier, other)
        assert 2 == len(session.asked)


async def test_a_key_that_ends_ends_in_the_cache_too() -> None:
    """To the second."""
    async with setting() as (session, verifier, clock):
        session.keys[SECRET].expire_time.CopyFrom(Timestamp(seconds=int(clock.now) + 2))
        principal = await verifier.verify(SECRET)
        assert principal.expire_time is not None
        clock.now += 3

        assert await refused(verifier)


@pytest.mark.parametrize(
    "token", ["", "x", "moorline_", "moorline_AAAAAAAA_" + "x" * 32, SECRET + "\n", SECRET + "한"]
)
async def test_what_is_no_key_is_not_asked_about(token: str) -> None:
    """Its shape tells."""
    async with setting() as (session, verifier, _):
        assert await refused(verifier, token)
        assert [] == session.asked


async def test_an_outage_is_not_a_refusal() -> None:
    """The client may try again."""
    async with peer_of("127.0.0.1:1") as peer:
        with pytest.raises(Failure) as raised:
            await KeyVerifier(peer=peer, clock=FakeClock(), monotonic=FakeClock()).verify(SECRET)

    assert "SERVICE_UNAVAILABLE" == raised.value.reason_name


async def test_a_login_by_key_is_good_until_the_key_is_revoked() -> None:
    """Without its secret, by asking for the user's keys as the user."""
    async with setting() as (session, verifier, clock):
        await verifier.require_good(PRINCIPAL)
        await verifier.require_good(PRINCIPAL)
        assert [("ListKeys", "users/ada", False)] == [
            (name, identity.user, identity.keyed) for name, identity in session.asked
        ]
        session.keys[SECRET].revoke_time.GetCurrentTime()
        clock.now += 6
        with pytest.raises(Failure) as raised:
            await verifier.require_good(PRINCIPAL)

        assert "TOKEN_INVALID" == raised.value.reason_name


async def test_a_key_that_was_revoked_here_is_refused_at_once() -> None:
    """By secret and by name, also where an answer on its way still calls it good."""
    async with setting() as (session, verifier, clock):
        await verifier.verify(SECRET)
        await verifier.require_good(PRINCIPAL)
        verifier.revoked(KEY)
        assert await refused(verifier)
        with pytest.raises(Failure):
            await verifier.require_good(PRINCIPAL)
        clock.now += 6
        assert await refused(verifier)
        session.keys[SECRET].revoke_time.GetCurrentTime()
        clock.now += 6
        assert await refused(verifier)
        verifier.revoked("users/ada/keys/bbbbbbbb")

        assert ["users/ada/keys/bbbbbbbb"] == list(verifier._revoked)


async def test_the_memory_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    """What is out of date goes first, and all of it when that is not enough."""
    async with setting() as (_, verifier, clock):
        verifier._known = {str(n): (None, clock.now + n - 10) for n in range(4096)}
        await verifier.verify(SECRET)
        assert 4086 == len(verifier._known)
        verifier._known |= {str(n): (None, clock.now + 10) for n in range(5000)}
        assert await refused(verifier, "moorline_bbbbbbbb_" + "y" * 32)

        assert 1 == len(verifier._known)
        assert SECRET not in caplog.text
