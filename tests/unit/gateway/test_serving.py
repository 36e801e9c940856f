"""Tests of `services.gateway.serving`, `door`, `websocket` and `listener`, over sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket as sockets
import struct
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from joserfc import jwk, jwt

from moorline.gateway.v1 import frames_pb2
from services.gateway import connections, listener
from services.gateway.settings import Authentication
from tests.unit.gateway.fakes import checkpoint, delta, event, until
from tests.unit.gateway.running import (
    BEARER,
    PROTOCOL,
    TOKEN,
    Gateway,
    close_code,
    gateway,
    hear,
    say,
    settings,
)
from tests.unit.gateway.session_api import SECRET

AGENT = "users/dev/agents/a1"


async def welcomed(
    g: Gateway, headers: dict[str, str] | None = None
) -> tuple[aiohttp.ClientWebSocketResponse, str]:
    """Open a connection and say hello; the user it is for."""
    socket = await g.connect(headers)
    await say(socket, id=1, cancel={})
    return socket, (await hear(socket))["welcome"]["user"]


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
        async with gateway(upgrades_per_second=1) as g:
            statuses = [(await g.refusal({}))[0] for _ in range(6)]

            assert [401] * 4 + [429] * 2 == statuses

    async def test_a_user_has_a_number_of_connections(self) -> None:
        """One more is accepted, because a browser shows no other refusal, and closed."""
        async with gateway(connections_per_user=1) as g:
            first, _ = await welcomed(g)
            assert 4506 == await close_code(await g.connect())
            await first.close()
            await asyncio.sleep(0.05)
            _, user = await welcomed(g)

            assert "users/dev" == user


class TestFrames:
    """What travels."""

    async def test_a_call_and_a_stream_work_end_to_end(self) -> None:
        """From the session service to the client, in JSON."""
        async with gateway() as g:
            g.session.updates = [event(1), checkpoint(1)]
            socket, _ = await welcomed(g)
            await say(socket, id=2, getAgent={"name": AGENT})
            assert {"id": 2, "getAgentResponse": {"agent": {"name": AGENT}}} == await hear(socket)
            await say(socket, id=3, watchEvents={"parent": AGENT, "includeDeltas": True})
            frame = await hear(socket)
            assert 2 == len(frame["watchEventsResponse"]["updates"])
            g.session.push(delta("한"))

            [update] = (await hear(socket))["watchEventsResponse"]["updates"]
            assert {"blockId": "b1", "snapshot": True, "text": "한"} == update["delta"]

    async def test_protobuf_works_too(self) -> None:
        """A binary first frame."""
        async with gateway() as g:
            socket = await g.connect()
            frame = frames_pb2.ClientFrame(id=2)
            frame.get_agent.name = AGENT
            await socket.send_bytes(frame.SerializeToString())
            replies = [
                frames_pb2.ServerFrame.FromString(await socket.receive_bytes()) for _ in range(2)
            ]

            assert "users/dev" == replies[0].welcome.user
            assert AGENT == replies[1].get_agent_response.agent.name

    @pytest.mark.parametrize("size", [1, 100, 200, 70_000])
    async def test_frames_of_all_sizes_arrive(self, size: int) -> None:
        """The header of a WebSocket frame has three forms."""
        async with gateway() as g:
            g.session.updates = [event(1, size=size)]
            socket, _ = await welcomed(g)
            await say(socket, id=3, watchEvents={"parent": AGENT})

            [update] = (await hear(socket))["watchEventsResponse"]["updates"]
            assert size == len(update["event"]["turnId"])

    async def test_others_resources_do_not_exist(self) -> None:
        """The session service says so, and the gateway passes it on."""
        async with gateway() as g:
            socket, _ = await welcomed(g)
            await say(socket, id=2, getAgent={"name": "users/ada/agents/a1"})
            await say(socket, id=3, watchEvents={"parent": "users/ada/agents/a1"})
            frames = [await hear(socket), await hear(socket)]

            assert {2, 3} == {frame["id"] for frame in frames}
            assert 1 == len({frame["error"]["message"] for frame in frames})

    async def test_pings_are_answered(self) -> None:
        """By the connection, not by the protocol above it."""
        async with gateway() as g:
            reader, writer = await raw_upgrade(g)
            writer.write(masked(0x89, b"ping"))
            assert b"\x8a\x04ping" == await reader.readexactly(6)
            writer.write(masked(0x8A, b"pong") + masked(0x88, struct.pack(">H", 1000)))

            assert b"\x88\x02\x03\xe8" == await reader.readexactly(4)
            writer.close()

    async def test_a_close_without_a_code_is_answered_likewise(self) -> None:
        """And the connection ends."""
        async with gateway() as g:
            reader, writer = await raw_upgrade(g)
            writer.write(masked(0x88, b""))

            assert b"\x88\x00" == await reader.read()
            writer.close()

    @pytest.mark.parametrize(
        "data",
        [
            b"\x81\xff" + struct.pack(">Q", 1 << 40) + b"\0\0\0\0",
            b"\x81\xff" + struct.pack(">Q", 300_000) + b"\0\0\0\0" + b"x" * 300_000,
            b"\xf1\x80\0\0\0\0",
            b"\x83\x80\0\0\0\0",
            b"\x89\xfe\x01\x00" + b"\0" * 4 + b"x" * 256,
        ],
        ids=["huge", "large", "reserved-bits", "unknown-kind", "long-ping"],
    )
    async def test_what_is_not_websocket_closes_with_our_code(self, data: bytes) -> None:
        """Not with one of the library's."""
        async with gateway() as g:
            reader, writer = await raw_upgrade(g)
            writer.write(data)
            head = await reader.readexactly(4)

            assert (0x88, 4500) == (head[0], struct.unpack(">H", head[2:])[0])
            writer.close()

    async def test_invalid_utf8_closes_with_our_code(self) -> None:
        """A text message must be text."""
        async with gateway() as g:
            reader, writer = await raw_upgrade(g)
            writer.write(masked(0x81, b"\xff\xfe"))
            head = await reader.readexactly(4)

            assert 4500 == struct.unpack(">H", head[2:])[0]
            writer.close()

    async def test_the_largest_frame_passes_and_one_byte_more_does_not(self) -> None:
        """In a close frame that also a client which goes on sending gets to read."""
        async with gateway(frame_bytes=2000) as g:
            socket, _ = await welcomed(g)
            head = '{"id":2,"getAgent":{"name":"'
            await socket.send_str(head + "x" * (2000 - len(head) - 3) + '"}}')
            assert "error" in await hear(socket)
            for _ in range(20):
                with contextlib.suppress(ConnectionError):
                    await socket.send_str("x" * 2001)

            assert 4500 == await close_code(socket)

    async def test_a_close_is_read_by_a_client_that_floods(self) -> None:
        """4005, and not a connection reset."""
        async with gateway(frames_per_second=1, frames_burst=1) as g:
            socket, _ = await welcomed(g)
            for _ in range(1100):
                with contextlib.suppress(ConnectionError):
                    await socket.send_str('{"id":1,"listBackends":{}}')

            assert 4005 == await close_code(socket)


class TestSlowClients:
    """Clients that do not read, on real sockets."""

    async def test_one_is_cut_and_delays_nobody(self) -> None:
        """Its unread replies are bounded."""
        async with gateway() as g:
            g.session.updates = [event(n, size=60_000) for n in range(1, 40)]
            slow_reader, slow = await raw_upgrade(g)
            slow.write(masked(0x81, b'{"id":1,"watchEvents":{"parent":"%b"}}' % AGENT.encode()))
            socket, _ = await welcomed(g)
            await say(socket, id=3, getAgent={"name": AGENT})
            assert 3 == (await hear(socket))["id"]
            received = len(await slow_reader.read(1 << 20))
            while received < 39 * 60_000:
                received += len(await slow_reader.read(1 << 20))

            slow.close()


class TestHttpConnections:
    """The layer below the routes."""

    async def test_a_slow_head_is_cut(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """However steadily it trickles in."""
        monkeypatch.setattr(listener, "HEAD_SECONDS", 0.2)
        async with gateway() as g:
            reader, writer = await asyncio.open_connection("127.0.0.1", g.port)
            start = time.monotonic()
            with contextlib.suppress(ConnectionError):
                for byte in b"GET / HTTP/1.1\r\nHost: x\r\n" * 10:
                    writer.write(bytes((byte,)))
                    await writer.drain()
                    await asyncio.sleep(0.02)
            with contextlib.suppress(ConnectionError):
                assert b"" == await reader.read()

            assert time.monotonic() - start < 8
            writer.close()

    async def test_a_slow_second_head_is_cut(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """An idle connection is kept, one that begins a request and stops is not."""
        monkeypatch.setattr(listener, "HEAD_SECONDS", 0.2)
        async with gateway() as g:
            reader, writer = await asyncio.open_connection("127.0.0.1", g.port)
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            await reader.readuntil(b'{"status":"ok"}')
            await asyncio.sleep(0.4)
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            await reader.readuntil(b'{"status":"ok"}')
            writer.write(b"GET /")

            assert b"" == await reader.read()
            writer.close()

    @pytest.mark.parametrize("data", [b"\x16\x03\x01\x02\x00\r\n\r\n", b"GET / HTTP/9\r\n\r\n"])
    async def test_what_is_not_http_is_answered_without_a_traceback(
        self, data: bytes, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Scanners send it all day."""
        async with gateway() as g:
            reader, writer = await asyncio.open_connection("127.0.0.1", g.port)
            writer.write(data)
            answer = await reader.read()

            assert answer.startswith(b"HTTP/1.0 400")
            assert b"aiohttp" not in answer
            assert [] == [record for record in caplog.records if record.exc_info]
            writer.close()

    def test_an_address_in_use_is_an_error(self) -> None:
        """And leaves no socket open."""
        with sockets.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            with pytest.raises(OSError, match="in use"):
                listener.bind(f"127.0.0.1:{taken.getsockname()[1]}")

    def test_the_kernel_holds_little_for_a_client(self) -> None:
        """Accepted sockets inherit it."""
        with listener.bind("127.0.0.1:0") as bound:
            size = bound.getsockopt(sockets.SOL_SOCKET, sockets.SO_SNDBUF)

        assert size <= 2 * listener.SEND_BUFFER


class TestDraining:
    """The end."""

    async def test_clients_are_told_and_sent_away(self) -> None:
        """`go_away`, then 1012; and the process ends by itself."""
        async with gateway() as g:
            socket, _ = await welcomed(g)
            g.stop.set()
            assert "reconnectDelay" in (await hear(socket))["goAway"]
            assert 1012 == await close_code(socket)
            async with asyncio.timeout(3):
                await g.task

    async def test_calls_in_progress_are_finished(self) -> None:
        """The answer comes before the close."""
        async with gateway() as g:
            socket, _ = await welcomed(g)
            g.session.gate.clear()
            await say(socket, id=2, getAgent={"name": AGENT})
            await until(lambda: "GetAgent" in dict(g.session.asked))
            g.stop.set()
            assert "goAway" in await hear(socket)
            g.session.gate.set()

            assert "getAgentResponse" in await hear(socket)
            assert 1012 == await close_code(socket)

    async def test_calls_that_take_too_long_are_given_up(self) -> None:
        """The limit is for everything together."""
        async with gateway(drain_seconds=timedelta(seconds=1.6)) as g:
            socket, _ = await welcomed(g)
            g.session.gate.clear()
            await say(socket, id=2, getAgent={"name": AGENT})
            await until(lambda: "GetAgent" in dict(g.session.asked))
            g.stop.set()
            assert "goAway" in await hear(socket)

            assert 1012 == await close_code(socket)
            g.session.gate.set()

    async def test_newcomers_are_sent_elsewhere(self) -> None:
        """And readiness is withdrawn."""
        async with gateway(lame_duck=timedelta(seconds=0.5)) as g:
            async with g.client.get(f"{g.url}/healthz"):
                pass
            g.stop.set()
            await asyncio.sleep(0.05)
            status, error, headers = await g.refusal()
            assert (503, "ERROR_REASON_DRAINING") == (status, error["reason"])
            assert "Retry-After" in headers
            async with g.client.get(f"{g.url}/readyz") as response:
                assert 503 == response.status

    async def test_a_client_that_does_not_answer_the_close_is_cut(self) -> None:
        """The process does not wait for it."""
        async with gateway() as g:
            _, writer = await raw_upgrade(g)
            start = time.monotonic()
            g.stop.set()
            await g.task

            assert time.monotonic() - start < connections.LEAVE_SECONDS + 2
            writer.close()


async def test_development_does_not_listen_for_others() -> None:
    """A token that is printed must not be of use from outside."""
    with pytest.raises(ValueError, match="loopback"):
        settings(listen="0.0.0.0:8080")


async def test_nothing_secret_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Neither in the line of a request nor in that of a connection."""
    caplog.set_level(logging.DEBUG)
    async with gateway() as g:
        socket, _ = await welcomed(g)
        await socket.close()
        async with g.client.get(f"{g.url}/?token={TOKEN}&x=canary", allow_redirects=False):
            pass
        async with g.client.get(f"{g.url}/canary?token=canary"):
            pass
        await g.refusal({"Authorization": "Bearer canary"})
        await until(lambda: "connection over" in caplog.messages)
        ours = [r.__dict__ for r in caplog.records if not r.name.startswith("aiohttp.client")]

    assert TOKEN not in str(ours)
    assert "canary" not in str(ours)


async def raw_upgrade(g: Gateway) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a WebSocket whose bytes a test writes itself."""
    reader, writer = await asyncio.open_connection("127.0.0.1", g.port)
    writer.write(handshake(g, TOKEN))
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101")
    return reader, writer


def handshake(g: Gateway, token: str) -> bytes:
    """A request for a WebSocket."""
    return (
        f"GET /v1/ws HTTP/1.1\r\nHost: 127.0.0.1:{g.port}\r\nConnection: Upgrade\r\n"
        f"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nAuthorization: Bearer {token}\r\n"
        f"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        f"Sec-WebSocket-Protocol: {PROTOCOL}\r\n\r\n"
    ).encode()


def masked(first: int, payload: bytes) -> bytes:
    """A client's frame; the mask is zero."""
    assert len(payload) < 126
    return bytes((first, 0x80 | len(payload))) + b"\0\0\0\0" + payload
