"""Tests of `services.gateway.auth.seal`, `cookies` and `tickets`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from itertools import count

import pytest

from services.chassis.client import Peer
from services.chassis.failures import Failure
from services.gateway.auth.cookies import CookieVerifier
from services.gateway.auth.keys import KeyVerifier
from services.gateway.auth.seal import Seal
from services.gateway.auth.tickets import Tickets
from services.gateway.auth.verifier import Principal, Verifier, from_epoch
from tests.unit.chassis.service import peer_of
from tests.unit.gateway.fakes import FakeClock
from tests.unit.gateway.session_api import KEY, SECRET, FakeSession, fake_session

LONG = Principal(user="users/ada", admin=True)
KEYED = Principal(user="users/ada", key=KEY)
HOUR = timedelta(hours=1)


def seal(clock: FakeClock, *, key: str = "k" * 32, purpose: str = "test") -> Seal:
    """A seal of a gateway."""
    return Seal(key=key, purpose=purpose, clock=clock)


class Setting:
    """Cookies and tickets of one gateway."""

    def __init__(
        self, session: FakeSession, peer: Peer, keys: KeyVerifier, clock: FakeClock
    ) -> None:
        numbers = count()
        self.session = session
        self.clock = clock
        self.cookies = CookieVerifier(seal=seal(clock, purpose="cookie"), keys=keys)
        self.tickets, self.elsewhere = (
            Tickets(
                seal=seal(clock, purpose="ticket"),
                peer=peer,
                keys=keys,
                nonce=lambda: str(next(numbers)),
            )
            for _ in range(2)
        )


@asynccontextmanager
async def setting() -> AsyncIterator[Setting]:
    """Yield cookies and tickets."""
    clock = FakeClock()
    async with fake_session() as session, peer_of(session.target) as peer:
        yield Setting(session, peer, KeyVerifier(peer=peer, clock=clock, monotonic=clock), clock)


async def refused(verifier: Verifier, token: str) -> bool:
    """True when a token is refused as invalid."""
    try:
        await verifier.verify(token)
    except Failure as failure:
        return failure.reason_name == "TOKEN_INVALID"
    return False


def opens(by: Seal, text: str) -> bool:
    """True when a seal accepts a text."""
    try:
        by.open(text)
    except Failure as failure:
        return failure.reason_name != "TOKEN_INVALID"
    return True


def test_what_is_sealed_comes_back() -> None:
    """Everything about the principal, and when the seal ends."""
    clock = FakeClock()
    text, end = seal(clock).seal(LONG, life=HOUR)

    assert (LONG, clock.now + 3600) == seal(clock).open(text)
    assert end == clock.now + 3600


def test_a_seal_does_not_outlive_the_proof() -> None:
    """Whichever ends first."""
    clock = FakeClock()
    short = Principal(user="users/ada", expire_time=from_epoch(clock.now + 60))
    text, end = seal(clock).seal(short, life=HOUR)
    assert (short, end) == seal(clock).open(text)
    clock.now += 60

    assert not opens(seal(clock), text)


@pytest.mark.parametrize("text", ["", ".", "a.b", "한.\ud800", "W10.", "." * 100])
def test_what_was_not_sealed_is_refused(text: str) -> None:
    """Whatever it looks like."""
    assert not opens(seal(FakeClock()), text)


def test_every_changed_character_breaks_a_seal() -> None:
    """As does another key or another purpose."""
    clock = FakeClock()
    text, _ = seal(clock).seal(LONG, life=HOUR)
    for place in range(len(text)):
        changed = text[:place] + ("A" if text[place] != "A" else "B") + text[place + 1 :]
        # The last character of base64 has bits that mean nothing.
        assert place == len(text) - 1 or not opens(seal(clock), changed)

    assert not opens(seal(clock, key="x" * 32), text)
    assert not opens(seal(clock, purpose="other"), text)


async def test_a_cookie_is_good_for_twelve_hours() -> None:
    """And says when it ends, so that connections end with it."""
    async with setting() as s:
        value, end = s.cookies.make(LONG)
        principal = await s.cookies.verify(value)
        assert (from_epoch(end), True) == (principal.expire_time, principal.admin)
        s.clock.now += 12 * 3600 - 1
        assert not await refused(s.cookies, value)
        s.clock.now += 1

        assert await refused(s.cookies, value)


async def test_a_cookie_of_a_key_ends_with_the_key() -> None:
    """A revoked key logs its browsers out."""
    async with setting() as s:
        value, _ = s.cookies.make(KEYED)
        assert KEY == (await s.cookies.verify(value)).key
        s.session.keys[SECRET].revoke_time.GetCurrentTime()
        s.clock.now += 6

        assert await refused(s.cookies, value)


async def test_a_ticket_is_good_once() -> None:
    """And leaves the proof's own end to the connection."""
    async with setting() as s:
        ticket, end = s.tickets.make(LONG)
        assert LONG == await s.tickets.verify(ticket)
        assert s.clock.now + 30 == end

        assert await refused(s.tickets, ticket)
        assert await refused(s.elsewhere, ticket)


async def test_another_gateway_takes_a_ticket_too() -> None:
    """A client need not come back to the one that made it; but then it is used up."""
    async with setting() as s:
        ticket, _ = s.tickets.make(LONG)
        assert LONG == await s.elsewhere.verify(ticket)

        assert await refused(s.tickets, ticket)


async def test_a_ticket_waits_for_thirty_seconds() -> None:
    """Whoever comes later asks for another one."""
    async with setting() as s:
        late, _ = s.tickets.make(LONG)
        s.clock.now += 31

        assert await refused(s.tickets, late)
        await s.tickets.verify(s.tickets.make(LONG)[0])


async def test_a_ticket_and_a_cookie_are_not_the_same() -> None:
    """Each is worth nothing in the other's place."""
    async with setting() as s:
        assert await refused(s.cookies, s.tickets.make(LONG)[0])
        assert await refused(s.tickets, s.cookies.make(LONG)[0])


async def test_a_ticket_of_a_key_ends_with_the_key() -> None:
    """Before it is used, and for the connection it opened."""
    async with setting() as s:
        ticket, _ = s.tickets.make(KEYED)
        principal = await s.tickets.verify(ticket)
        assert KEYED == await s.tickets.verify_again(principal)
        s.session.keys[SECRET].revoke_time.GetCurrentTime()
        s.clock.now += 6

        assert await refused(s.tickets, s.tickets.make(KEYED)[0])
        with pytest.raises(Failure):
            await s.tickets.verify_again(principal)
