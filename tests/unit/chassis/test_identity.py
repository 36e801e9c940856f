"""Tests of `services.chassis.identity`."""

from __future__ import annotations

import asyncio

import pytest
from joserfc import jwk, jwt

from moorline.errors.v1 import errors_pb2
from services.chassis import failures, identity
from services.chassis.failures import Failure
from services.chassis.identity import Checker, Identity, Signer

KEY = "0123456789abcdef0123456789abcdef"
ADA = Identity(user="users/ada", admin=True, keyed=True)


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still."""
    return Clock()


def forged(key: str = KEY, **claims: object) -> str:
    """Return a token with claims of our choice."""
    good = {"iss": "moorline", "sub": "users/ada", "exp": 1_000_060}
    return jwt.encode({"alg": "HS256"}, good | claims, jwk.OctKey.import_key(key))


@pytest.mark.parametrize("who", [ADA, Identity(user="services/gateway")])
def test_an_identity_survives_the_wire(who: Identity, clock: Clock) -> None:
    """The checker reads all that the signer wrote, the second time from its cache."""
    token = Signer(key=KEY, clock=clock).token(who)
    checker = Checker(key=KEY, clock=clock)

    assert who == checker.check(token)
    assert who is not checker.check(token)
    assert checker.check(token) is checker.check(token)


def test_a_token_is_used_again_for_half_its_life(clock: Clock) -> None:
    """A token always has at least 30 s left when it leaves."""
    signer = Signer(key=KEY, clock=clock)
    first = signer.token(ADA)

    clock.now += 29
    assert first == signer.token(ADA)
    clock.now += 1
    assert first != signer.token(ADA)


def test_a_token_expires(clock: Clock) -> None:
    """After 60 s it is refused, cached or not."""
    token = Signer(key=KEY, clock=clock).token(ADA)
    checker = Checker(key=KEY, clock=clock)
    checker.check(token)

    clock.now += 60

    for asked in (checker, Checker(key=KEY, clock=clock)):
        with pytest.raises(Failure, match="expired") as caught:
            asked.check(token)
        assert caught.value.reason == errors_pb2.ERROR_REASON_TOKEN_INVALID


@pytest.mark.parametrize("hours", [-1, 1, 24])
def test_a_token_with_the_wrong_time_tells_the_right_one(hours: int, clock: Clock) -> None:
    """Signed again with the difference it is accepted, whoever's clock is wrong."""
    ours = Clock()
    ours.now += hours * 3600
    signer, checker = Signer(key=KEY, clock=ours), Checker(key=KEY, clock=clock)

    with pytest.raises(Failure, match="expired") as caught:
        checker.check(signer.token(ADA))
    offset = signer.offset_seconds(caught.value)

    assert list(caught.value.metadata) == ["time"]
    assert offset == -hours * 3600
    assert checker.check(signer.token(ADA, offset)) == ADA
    # Each difference has its tokens, because another peer's clock may be right.
    assert signer.token(ADA, offset) == signer.token(ADA, offset) != signer.token(ADA)


@pytest.mark.parametrize("minutes", [-0.4, 9.9])
def test_clocks_may_differ_a_little(minutes: float, clock: Clock) -> None:
    """Nobody needs to learn anything then."""
    ours = Clock()
    ours.now += minutes * 60

    assert Checker(key=KEY, clock=clock).check(Signer(key=KEY, clock=ours).token(ADA)) == ADA


@pytest.mark.parametrize(
    "metadata",
    [{}, {"time": ""}, {"time": "noon"}, {"time": "4102444800"}, {"time": "a.b.c"}],
)
def test_other_refusals_say_nothing_about_clocks(metadata: dict[str, str], clock: Clock) -> None:
    """Neither another reason, nor a time that is none."""
    signer = Signer(key=KEY, clock=clock)
    refusal = Failure(errors_pb2.ERROR_REASON_TOKEN_INVALID, "No.")
    refusal.metadata = metadata

    assert signer.offset_seconds(refusal) is None
    assert signer.offset_seconds(failures.not_found()) is None


def test_only_who_has_the_key_can_tell_the_time(clock: Clock) -> None:
    """Else whoever answers at a pod's address got tokens for any time to come."""
    signer, other = Signer(key=KEY, clock=clock), Checker(key="x" * 32, clock=clock)
    refusal = Failure(errors_pb2.ERROR_REASON_TOKEN_INVALID, "No.")
    ahead = Clock()
    ahead.now += 24 * 3600
    with pytest.raises(Failure) as caught:
        other.check(Signer(key="x" * 32, clock=ahead).token(ADA))
    assert list(caught.value.metadata) == ["time"]

    for told in (caught.value.metadata["time"], signer.token(ADA)):
        refusal.metadata = {"time": told}
        assert signer.offset_seconds(refusal) is None


def test_the_time_that_was_told_is_no_identity(clock: Clock) -> None:
    """Although the same key has signed it."""
    checker, ahead = Checker(key=KEY, clock=clock), Clock()
    ahead.now += 24 * 3600
    with pytest.raises(Failure) as caught:
        checker.check(Signer(key=KEY, clock=ahead).token(ADA))

    with pytest.raises(Failure, match="not valid"):
        checker.check(caught.value.metadata["time"])


def test_a_clock_set_back_makes_no_token_live_longer(clock: Clock) -> None:
    """Although it is remembered."""
    checker = Checker(key=KEY, clock=clock)
    token = Signer(key=KEY, clock=clock).token(ADA)
    assert checker.check(token) == ADA
    clock.now -= 3600

    with pytest.raises(Failure, match="expired"):
        checker.check(token)


@pytest.mark.parametrize(
    "token",
    [
        "",
        "a.b.c",
        "ключ",
        forged(key="another key that is long enough"),
        forged(iss="somebody"),
        forged(sub=7),
        forged(exp="soon"),
        forged(key="another key that is long enough", exp=5),
        forged(iss="somebody", exp=5),
        forged().rsplit(".", 1)[0] + ".",
    ],
)
def test_a_token_that_is_not_ours_is_refused(token: str, clock: Clock) -> None:
    """The failure repeats neither the token nor our time."""
    with pytest.raises(Failure) as caught:
        Checker(key=KEY, clock=clock).check(token)

    assert caught.value.reason == errors_pb2.ERROR_REASON_TOKEN_INVALID
    assert caught.value.metadata == {}
    assert not token or token not in str(caught.value)
    assert caught.value.__cause__ is None


def test_caches_are_bounded(clock: Clock) -> None:
    """A full cache first loses what has expired, then everything."""
    signer = Signer(key=KEY, clock=clock, cache_size=2)

    def token(user: str) -> str:
        return signer.token(Identity(user=user))

    token("users/u1")
    token("users/u2")
    clock.now += 30
    assert token("users/u3") == token("users/u3")
    assert [who.user for who, _ in signer._tokens] == ["users/u3"]
    token("users/u4")
    token("users/u5")
    assert [who.user for who, _ in signer._tokens] == ["users/u5"]


@pytest.mark.parametrize("kind", [Signer, Checker])
def test_a_short_key_is_refused(kind: type[Signer | Checker]) -> None:
    """A key below 32 characters is a mistake in the settings."""
    with pytest.raises(ValueError, match="at least 32"):
        kind(key="short")


async def test_the_caller_belongs_to_its_task() -> None:
    """Two calls at once do not see each other's caller."""

    async def answer(user: str) -> str:
        identity.act_as(Identity(user=user))
        await asyncio.sleep(0)
        return identity.caller().user

    answers = await asyncio.gather(*(answer(f"users/u{n}") for n in range(3)))

    assert answers == ["users/u0", "users/u1", "users/u2"]
    with pytest.raises(LookupError):
        identity.caller()
