"""Tests of `services.gateway.auth.signed` and `jwks`, with real keys."""

from __future__ import annotations

import base64
import hmac
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from joserfc import jwk, jwt
from joserfc.errors import SecurityWarning

from services.chassis.failures import Failure
from services.gateway.auth.jwks import KEEP_SECONDS, MAX_BYTES, PAUSE_SECONDS, Jwks
from services.gateway.auth.jwks import from_file as jwks_from_file
from services.gateway.auth.jwks import from_url as jwks_from_url
from services.gateway.auth.signed import SignedVerifier
from services.gateway.auth.verifier import Principal, from_epoch
from tests.unit.gateway.fakes import FakeClock

RSA = jwk.RSAKey.generate_key(2048, {"kid": "rsa"})
EC = jwk.ECKey.generate_key("P-256", {"kid": "ec"})
ED = jwk.OKPKey.generate_key("Ed25519", {"kid": "ed"})
OTHER = jwk.RSAKey.generate_key(2048, {"kid": "rsa"})
NOW = 1_800_000_000.0
CLAIMS = {"iss": "https://id.example", "aud": "moorline", "sub": "ada", "exp": int(NOW) + 600}


def published(*keys: Any) -> bytes:
    """A key set as a provider publishes it."""
    return json.dumps({"keys": [key.as_dict(private=False) for key in keys]}).encode()


class Provider:
    """Publishes keys, and counts how often it was asked."""

    def __init__(self, content: bytes | Exception) -> None:
        self.content = content
        self.asked = 0

    async def __call__(self) -> bytes:
        """Answer."""
        self.asked += 1
        if isinstance(self.content, Exception):
            raise self.content
        return self.content


def verifier(
    content: bytes | Provider = b"", *, claim: str = "sub", admins: tuple[str, ...] = ()
) -> SignedVerifier:
    """A verifier that knows the provider's keys."""
    provider = content if isinstance(content, Provider) else Provider(content)
    provider.content = provider.content or published(RSA, EC, ED)
    return SignedVerifier(
        keys=Jwks(fetch=provider, clock=FakeClock()),
        issuer="https://id.example",
        audience="moorline",
        user_claim=claim,
        admins=admins,
        clock=lambda: NOW,
    )


def sign(key: Any = RSA, algorithm: str = "RS256", kid: Any = "", **changes: Any) -> str:
    """A token of the provider."""
    header = {"alg": algorithm} | ({"kid": kid or key.get("kid")} if kid is not None else {})
    claims = {name: value for name, value in (CLAIMS | changes).items() if value is not None}
    return jwt.encode(header, claims, key, algorithms=[algorithm])


def forge(header: Any, signature: bytes = b"") -> str:
    """A token made by hand."""
    parts = [json.dumps(header).encode(), json.dumps(CLAIMS).encode(), signature]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


async def reason(checker: SignedVerifier, token: str) -> str:
    """Why a token is refused."""
    with pytest.raises(Failure) as raised:
        await checker.verify(token)
    return raised.value.reason_name


@pytest.mark.filterwarnings("ignore::joserfc.errors.SecurityWarning")
@pytest.mark.parametrize(
    ("key", "algorithm"), [(RSA, "RS256"), (EC, "ES256"), (ED, "EdDSA"), (ED, "Ed25519")]
)
async def test_a_signed_token_names_its_user(key: Any, algorithm: str) -> None:
    """Until it ends."""
    assert Principal(
        user="users/ada", expire_time=from_epoch(NOW + 600)
    ) == await verifier().verify(sign(key, algorithm))


async def test_the_older_name_of_ed25519_makes_no_warning() -> None:
    """Nobody who runs this can do anything about it."""
    with pytest.warns(SecurityWarning):
        token = sign(ED, "EdDSA")
    await verifier().verify(token)


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://evil.example"},
        {"iss": None},
        {"aud": "other"},
        {"aud": ["a", "b"]},
        {"aud": None},
        {"exp": int(NOW)},
        {"exp": None},
        {"exp": "tomorrow"},
        {"exp": 1e300},
        {"nbf": int(NOW) + 60},
        {"nbf": "x"},
        {"sub": None},
        {"sub": ""},
        {"sub": 7},
    ],
)
async def test_a_token_with_wrong_claims_is_refused(changes: dict[str, Any]) -> None:
    """Whoever has signed it."""
    assert "TOKEN_INVALID" == await reason(verifier(), sign(**changes))


async def test_an_audience_among_others_is_enough() -> None:
    """And a clock that is a little ahead."""
    await verifier().verify(sign(aud=["other", "moorline"], nbf=int(NOW) + 20))


async def test_another_key_is_refused() -> None:
    """Even under the name of a good one."""
    assert "TOKEN_INVALID" == await reason(verifier(), sign(OTHER))


async def test_a_changed_token_is_refused() -> None:
    """One character of the claims."""
    head, claims, signature = sign().split(".")
    claims = claims[:10] + ("A" if claims[10] != "A" else "B") + claims[11:]

    assert "TOKEN_INVALID" == await reason(verifier(), f"{head}.{claims}.{signature}")


async def test_no_signature_is_refused() -> None:
    """`alg: none`, in any spelling, with and without a key."""
    for algorithm in ("none", "None", "", None, 7, ["RS256"]):
        for kid in ({}, {"kid": "rsa"}):
            assert "TOKEN_INVALID" == await reason(verifier(), forge({"alg": algorithm} | kid))


async def test_the_public_key_is_no_secret_key() -> None:
    """A token signed with HS256 and the published key is refused."""
    pem = RSA.as_pem(private=False)
    head = {"alg": "HS256", "kid": "rsa"}
    content = forge(head).rpartition(".")[0]
    token = forge(head, hmac.digest(pem, content.encode(), "sha256"))

    assert "TOKEN_INVALID" == await reason(verifier(), token)


async def test_a_key_of_the_wrong_kind_is_refused() -> None:
    """The algorithm decides which keys count."""
    assert "TOKEN_INVALID" == await reason(verifier(), forge({"alg": "ES256", "kid": "rsa"}, b"x"))


@pytest.mark.parametrize("header", [[], 7, None, "x", {"alg": "RS256", "crit": ["x"]}])
async def test_a_strange_header_is_refused(header: Any) -> None:
    """Whatever a guesser thinks of."""
    assert "TOKEN_INVALID" == await reason(verifier(), forge(header, b"x"))


@pytest.mark.parametrize("token", ["", "a", "a.b", "a.b.c", "..", "한.글.이", "a.b.c.d"])
async def test_what_is_no_token_is_refused(token: str) -> None:
    """Without asking the provider."""
    provider = Provider(published(RSA))

    assert "TOKEN_INVALID" == await reason(verifier(provider), token)
    assert 0 == provider.asked


async def test_a_strange_key_name_is_refused() -> None:
    """Anything but a text."""
    assert "TOKEN_INVALID" == await reason(verifier(), forge({"alg": "RS256", "kid": 7}, b"x"))


async def test_a_token_without_a_key_name_needs_a_single_key() -> None:
    """Guessing among several is not for us."""
    await verifier(published(RSA, EC)).verify(sign(kid=None))

    assert "TOKEN_INVALID" == await reason(verifier(published(RSA, OTHER)), sign(kid=None))


async def test_a_subject_that_is_no_user_id_becomes_one() -> None:
    """The same each time, and another one for another subject."""
    checker = verifier(claim="email")
    users = [
        (await checker.verify(sign(email=email))).user
        for email in ("ada@example.com", "ada@example.com", "bob@example.com", "u-cafe", "Ada")
    ]

    assert users[0] == users[1]
    assert 4 == len(set(users))
    assert all(user.startswith("users/u-") and len(user) == 40 for user in users)


async def test_administrators_are_named_by_settings() -> None:
    """By the id they have here."""
    checker = verifier(admins=("ada",))

    assert (await checker.verify(sign())).admin
    assert not (await checker.verify(sign(sub="bob"))).admin


class TestKeys:
    """Fetching the provider's keys."""

    async def test_they_are_fetched_once_and_again_after_a_while(self) -> None:
        """Concurrent needs make one fetch."""
        provider, clock = Provider(published(RSA)), FakeClock()
        keys = Jwks(fetch=provider, clock=clock)
        for _ in range(3):
            await keys.find("rsa", "RS256")
        assert 1 == provider.asked
        clock.now += KEEP_SECONDS
        await keys.find("rsa", "RS256")

        assert 2 == provider.asked

    async def test_a_new_key_is_found_at_once_but_not_too_often(self) -> None:
        """Tokens that name keys at random cannot make us fetch without end."""
        provider, clock = Provider(published(RSA)), FakeClock()
        keys = Jwks(fetch=provider, clock=clock)
        await keys.find("rsa", "RS256")
        provider.content = published(RSA, EC)
        for _ in range(3):
            with pytest.raises(Failure):
                await keys.find("ec", "ES256")
        assert 1 == provider.asked
        clock.now += PAUSE_SECONDS
        await keys.find("ec", "ES256")

        assert 2 == provider.asked

    async def test_an_outage_of_the_provider_locks_nobody_out(self) -> None:
        """Known keys stay good."""
        provider, clock = Provider(published(RSA)), FakeClock()
        keys = Jwks(fetch=provider, clock=clock)
        await keys.find("rsa", "RS256")
        provider.content = OSError("down")
        clock.now += KEEP_SECONDS
        await keys.find("rsa", "RS256")

        assert 2 == provider.asked

    @pytest.mark.parametrize(
        "content", [OSError(), TimeoutError(), b"{", b"[]", b"{}", b'{"keys":5}']
    )
    async def test_without_any_keys_the_client_may_try_again(
        self, content: bytes | Exception
    ) -> None:
        """It is not the token's fault."""
        with pytest.raises(Failure) as raised:
            await Jwks(fetch=Provider(content), clock=FakeClock()).find(None, "RS256")

        assert "SERVICE_UNAVAILABLE" == raised.value.reason_name
        assert raised.value.retry_delay is not None

    async def test_keys_that_check_no_signature_are_skipped(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Broken ones, symmetric ones, ones for encryption."""
        entries: list[Any] = json.loads(published(RSA))["keys"]
        good = entries[0]
        entries += [
            7,
            {"kty": "oct", "k": "AAAA", "kid": "oct"},
            {"kty": "RSA", "n": "!", "kid": "broken"},
            good | {"use": "enc", "kid": "enc"},
        ]
        keys = Jwks(fetch=Provider(json.dumps({"keys": entries}).encode()), clock=FakeClock())

        assert "rsa" == (await keys.find(None, "RS256")).get("kid")
        assert "not understood" in caplog.text

    async def test_they_come_from_a_file(self, tmp_path: Path) -> None:
        """As a mounted secret or config map."""
        path = tmp_path / "jwks.json"
        path.write_bytes(published(RSA))
        await Jwks(fetch=jwks_from_file(path), clock=FakeClock()).find("rsa", "RS256")

    @pytest.mark.parametrize(
        ("status", "size", "good"),
        [
            (200, 0, True),
            (500, 0, False),
            (302, 0, False),
            (200, MAX_BYTES, False),
        ],
    )
    async def test_they_come_from_an_address(self, status: int, size: int, good: bool) -> None:
        """Only a whole, plain answer of a reasonable size counts."""

        async def answer(_: web.Request) -> web.Response:
            return web.Response(
                status=status, body=published(RSA) + b" " * size, headers={"Location": "/"}
            )

        application = web.Application()
        application.router.add_get("/", answer)
        runner = web.AppRunner(application)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        try:
            async with aiohttp.ClientSession() as session:
                fetch = jwks_from_url(session, f"http://127.0.0.1:{port}/")
                keys = Jwks(fetch=fetch, clock=FakeClock())
                if good:
                    await keys.find("rsa", "RS256")
                else:
                    with pytest.raises(Failure):
                        await keys.find("rsa", "RS256")
        finally:
            await runner.cleanup()
