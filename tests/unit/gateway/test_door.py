"""Tests of `services.gateway.door` and `credentials`, over sockets."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwk, jwt

from services.gateway.settings import Authentication
from tests.unit.gateway.fakes import until
from tests.unit.gateway.running import (
    BEARER,
    PROTOCOL,
    TOKEN,
    close_code,
    gateway,
    handshake,
    hear,
    masked,
    raw_upgrade,
    say,
    welcomed,
)
from tests.unit.gateway.session_api import SECRET


class TestHandshake:
    """What is refused before the upgrade, and what is not."""

    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": "Bearer "},
            {"Authorization": "Basic eDp5"},
            {"Authorization": TOKEN},
            {"Cookie": "moorline=x"},
        ],
    )
    async def test_without_a_good_proof_it_is_401(self, headers: dict[str, str]) -> None:
        """With a body that says what to do."""
        async with gateway() as g:
            status, error, answer = await g.refusal(headers)

            assert (401, "ERROR_REASON_TOKEN_INVALID") == (status, error["reason"])
            assert "Bearer" == answer["WWW-Authenticate"]
            assert error["message"]

    @pytest.mark.parametrize("auth", list(Authentication))
    async def test_the_administrator_is_let_in_with_every_kind_of_proof(
        self, auth: Authentication, tmp_path: Path
    ) -> None:
        """Somebody has to make the first API keys."""
        keys = tmp_path / "keys.json"
        keys.write_text('{"keys": []}')
        jwt_settings: dict[str, Any] = {
            "jwt_issuer": "i",
            "jwt_audience": "a",
            "jwt_jwks_file": keys,
        }
        async with gateway(auth=auth, admin_token="a" * 32, **jwt_settings) as g:
            _, user = await welcomed(g, {"Authorization": f"Bearer {'a' * 32}"})
            status, _, _ = await g.refusal({"Authorization": f"Bearer {'a' * 31}b"})

            assert ("users/admin", 401) == (user, status)

    async def test_a_foreign_origin_is_403(self) -> None:
        """Even with a good token."""
        async with gateway() as g:
            for origin in ("http://evil.example", "null", "http://[", g.url + "0"):
                status, error, _ = await g.refusal(BEARER | {"Origin": origin})
                assert (403, "ERROR_REASON_FORBIDDEN") == (status, error["reason"])

    async def test_a_rebound_name_is_403(self) -> None:
        """A page of a site whose name points to this machine is foreign."""
        async with gateway() as g:
            status, _, _ = await g.refusal(
                BEARER | {"Origin": "http://evil.example:1", "Host": "evil.example:1"}
            )

            assert 403 == status

    async def test_allowed_origins_may(self) -> None:
        """The own one on loopback, and those in the settings."""
        async with gateway(allowed_origins=("https://agents.example.com",)) as g:
            for origin in (g.url, "https://agents.example.com"):
                _, user = await welcomed(g, BEARER | {"Origin": origin})
                assert "users/dev" == user

    async def test_signed_tokens_are_accepted_when_configured(self, tmp_path: Path) -> None:
        """With the provider's keys in a file; the development token is nothing then."""
        key = jwk.ECKey.generate_key("P-256")
        path = tmp_path / "jwks.json"
        path.write_text(json.dumps({"keys": [key.as_dict(private=False)]}))
        claims = {"iss": "i", "aud": "a", "sub": "ada", "exp": int(time.time()) + 60}
        token = jwt.encode({"alg": "ES256"}, claims, key)
        signed: dict[str, Any] = {
            "auth": Authentication.JWT,
            "jwt_issuer": "i",
            "jwt_audience": "a",
        }
        async with gateway(**signed, jwt_jwks_file=path) as g:
            _, user = await welcomed(g, {"Authorization": f"Bearer {token}"})
            assert "users/ada" == user
            assert 401 == (await g.refusal(BEARER))[0]
        async with gateway(**signed, jwt_jwks_url="http://127.0.0.1:1/") as g:
            assert 503 == (await g.refusal({"Authorization": f"Bearer {token}"}))[0]

    async def test_a_client_that_leaves_before_the_answer_is_no_error(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """While it was found out who it is."""
        async with gateway() as g:
            g.session.gate.clear()
            _, writer = await asyncio.open_connection("127.0.0.1", g.port)
            writer.write(handshake(g, SECRET))
            await until(lambda: "VerifyKey" in dict(g.session.asked))
            writer.transport.abort()
            await asyncio.sleep(0.05)
            g.session.gate.set()
            await asyncio.sleep(0.05)

        assert [] == [record for record in caplog.records if record.exc_info]

    @pytest.mark.parametrize("protocols", [(), ("other",)])
    async def test_without_the_subprotocol_it_is_426(self, protocols: tuple[str, ...]) -> None:
        """And the answer names it."""
        async with gateway() as g:
            status, _, headers = await g.refusal(protocols=protocols)

            assert (426, PROTOCOL) == (status, headers["Sec-WebSocket-Protocol"])

    async def test_what_is_no_handshake_is_400(self) -> None:
        """As from a person with a browser."""
        async with gateway() as g:
            url, headers = f"{g.url}/v1/ws", {"Sec-WebSocket-Protocol": PROTOCOL} | BEARER
            async with g.client.get(url, headers=headers) as response:
                assert 400 == response.status

    async def test_a_cookie_counts_with_an_origin_only(self) -> None:
        """Else a page of any other site could use it."""
        async with gateway() as g:
            async with g.client.get(f"{g.url}/?token={TOKEN}", allow_redirects=False) as response:
                cookie = response.headers["Set-Cookie"].split(";")[0]
            status, error, _ = await g.refusal({"Cookie": cookie})
            assert (403, "ERROR_REASON_FORBIDDEN") == (status, error["reason"])
            _, user = await welcomed(g, {"Cookie": cookie, "Origin": g.url})

            assert "users/dev" == user

    async def test_a_ticket_opens_one_connection(self) -> None:
        """It is never echoed."""
        async with gateway() as g:
            async with g.client.post(f"{g.url}/v1/tickets", headers=BEARER) as response:
                ticket = "ticket." + (await response.json())["ticket"]
            socket = await g.connect({}, (PROTOCOL, ticket))
            assert PROTOCOL == socket.protocol
            status, _, _ = await g.refusal({}, (PROTOCOL, ticket))

            assert 401 == status

    async def test_a_ticket_of_a_key_lives_as_the_key(self) -> None:
        """The connection knows which key to ask about."""
        async with gateway() as g:
            headers = {"Authorization": f"Bearer {SECRET}"}
            async with g.client.post(f"{g.url}/v1/tickets", headers=headers) as response:
                ticket = "ticket." + (await response.json())["ticket"]
            socket = await g.connect({}, (PROTOCOL, ticket))
            await say(socket, id=1, cancel={})

            assert "users/ada" == (await hear(socket))["welcome"]["user"]

    async def test_a_key_that_cannot_be_checked_is_503(self) -> None:
        """With the time after which to try again."""
        async with gateway(session="127.0.0.1:1") as g:
            status, error, headers = await g.refusal({"Authorization": f"Bearer {SECRET}"})

            assert (503, "ERROR_REASON_SERVICE_UNAVAILABLE") == (status, error["reason"])
            assert "1" == headers["Retry-After"]

    async def test_too_many_at_once_are_429(self) -> None:
        """For all clients together."""
        loop = asyncio.get_running_loop()
        begin = loop.time()
        async with gateway(upgrades_per_second=1) as g:
            answers = await asyncio.gather(*(g.refusal({}) for _ in range(30)))
            statuses = Counter(status for status, _, _ in answers)

            assert {401, 429} == set(statuses)
            # So many at once, and one more for each second that it took.
            assert 4 <= statuses[401] <= 4 + loop.time() - begin

    async def test_a_user_has_a_number_of_connections(self) -> None:
        """One more is accepted, because a browser shows no other refusal, and closed."""
        async with gateway(connections_per_user=1) as g:
            first, _ = await welcomed(g)
            assert 4506 == await close_code(await g.connect())
            await first.close()
            await asyncio.sleep(0.05)
            _, user = await welcomed(g)

            assert "users/dev" == user

    async def test_closed_connections_leave_room_for_others(self) -> None:
        """Also while their clients have not answered the close."""
        async with gateway(connections_per_user=1) as g:
            reader, writer = await raw_upgrade(g)
            writer.write(masked(0x81, b"{"))
            await reader.readexactly(2)
            _, user = await welcomed(g)
            _, refused = await raw_upgrade(g)

            assert "users/dev" == user
            assert 4506 == await close_code(await g.connect())
            for each in (writer, refused):
                each.close()
