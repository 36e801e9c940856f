"""Tests of `services.gateway.serving` and `websocket`, over sockets."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import struct
from datetime import timedelta
from typing import Any

import aiohttp
import pytest

from moorline.gateway.v1 import frames_pb2
from services.gateway import stalls
from tests.unit.gateway.fakes import checkpoint, delta, event, until
from tests.unit.gateway.running import (
    TOKEN,
    Gateway,
    close_code,
    gateway,
    hear,
    masked,
    raw_upgrade,
    say,
    settings,
    welcomed,
)

AGENT = "users/dev/agents/a1"


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

    @pytest.mark.parametrize("first", [0x89, 0x8A], ids=["pings", "pongs"])
    async def test_a_flood_below_the_frames_closes(self, first: int) -> None:
        """With 4005; what comes after that is thrown away unread."""
        async with gateway(frames_per_second=1, frames_burst=1) as g:
            reader, writer = await raw_upgrade(g)
            writer.write(masked(first, b"") * 200_000)
            received = b""
            async with asyncio.timeout(15):
                while b"\x0f\xa5too many frames" not in received:
                    received += await reader.read(1 << 16) or pytest.fail("no close frame")

            assert received.count(b"\x8a\0") <= 1
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
            b"\x81\xff" + struct.pack(">Q", 600_000) + b"\0\0\0\0" + b"x" * 600_000,
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
        async with gateway(frame_bytes=8192, prompt_characters=1000) as g:
            socket, _ = await welcomed(g)
            head = '{"id":2,"getAgent":{"name":"'
            await socket.send_str(head + "x" * (8192 - len(head) - 3) + '"}}')
            assert "error" in await hear(socket)
            for _ in range(20):
                with contextlib.suppress(ConnectionError):
                    await socket.send_str("x" * 8193)

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

    async def test_one_that_reads_again_learns_why_it_was_closed(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The close frame waits behind what was sent before it."""
        monkeypatch.setattr(stalls, "PATIENCE", 0.2)
        async with gateway(connections_per_user=1) as g:
            g.session.updates = [event(n, size=60_000) for n in range(1, 40)]
            reader, writer = await raw_upgrade(g)
            transport: Any = writer.transport
            transport.pause_reading()
            writer.write(masked(0x81, b'{"id":1,"watchEvents":{"parent":"%b"}}' % AGENT.encode()))
            # One that is given up takes nobody's place, although it has not read of it.
            async with asyncio.timeout(15):
                await _let_in(g)
            transport.resume_reading()
            end = b""
            async with asyncio.timeout(15):
                while b"\x0f\xa2the client does not read" not in end:
                    end = (end + (await reader.read(1 << 20) or pytest.fail("cut")))[-100:]
            writer.close()


class TestDraining:
    """The end."""

    async def test_clients_are_told_and_sent_away(self) -> None:
        """`go_away`, then 1012; and the process ends by itself."""
        async with gateway() as g:
            socket, _ = await welcomed(g)
            g.stop.set()
            assert "reconnectDelay" in (await hear(socket))["goAway"]
            assert 1012 == await close_code(socket)
            async with asyncio.timeout(15):
                await g.task

    async def test_calls_in_progress_are_finished(self) -> None:
        """The answer comes before the close."""
        async with gateway(drain_seconds=timedelta(seconds=15)) as g:
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
        async with gateway(lame_duck=timedelta(seconds=60)) as g:
            g.stop.set()
            try:
                async with asyncio.timeout(15):
                    await _withdrawn(g)
                status, error, headers = await g.refusal()
                assert (503, "ERROR_REASON_DRAINING") == (status, error["reason"])
                assert "Retry-After" in headers
            finally:
                g.task.cancel()

    async def test_a_client_that_does_not_answer_the_close_is_cut(self) -> None:
        """The process does not wait for it."""
        async with gateway() as g:
            _, writer = await raw_upgrade(g)
            g.stop.set()
            async with asyncio.timeout(15):
                await g.task
            writer.close()


async def _withdrawn(g: Gateway) -> None:
    """Wait until the server says that it is ready no more because it drains."""
    while True:
        async with g.client.get(f"{g.url}/readyz") as response:
            if (await response.json())["draining"]:
                assert 503 == response.status
                return


async def _let_in(g: Gateway) -> None:
    """Open connections until one may stay."""
    while True:
        socket = await g.connect()
        with contextlib.suppress(ConnectionError):
            await say(socket, id=1, cancel={})
        if (await socket.receive()).type is aiohttp.WSMsgType.TEXT:
            return
        await asyncio.sleep(0.05)


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
