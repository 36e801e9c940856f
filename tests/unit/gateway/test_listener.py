"""Tests of `services.gateway.listener`, over sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket as sockets
import time

import pytest

from services.gateway import listener
from tests.unit.gateway.running import gateway

CHUNKED = (
    b"POST /v1/csp-report HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"4\r\nbody\r\n0\r\n\r\n"
)


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

    @pytest.mark.parametrize(
        "first",
        [
            b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
            b"POST /v1/csp-report HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody",
            b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 3,
        ],
        ids=["get", "post", "pipelined"],
    )
    @pytest.mark.parametrize("pieces", [1, 2])
    async def test_a_second_head_that_came_with_the_first_is_timed(
        self, monkeypatch: pytest.MonkeyPatch, first: bytes, pieces: int
    ) -> None:
        """Its beginning stands behind a whole request."""
        monkeypatch.setattr(listener, "HEAD_SECONDS", 0.2)
        async with gateway() as g:
            reader, writer = await asyncio.open_connection("127.0.0.1", g.port)
            data = first + b"GET / HTTP/1.1\r\n"
            cut = len(data) // pieces
            writer.write(data[:cut])
            await asyncio.sleep(0.02)
            writer.write(data[cut:])
            async with asyncio.timeout(3):
                answers = await reader.read()
                while more := await reader.read():
                    answers += more

            assert first.count(b"\r\n\r\n") == answers.count(b"HTTP/1.1 20")
            writer.close()

    @pytest.mark.parametrize(
        "request_",
        [
            b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
            b"\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
            b"POST /v1/csp-report HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody",
            CHUNKED,
        ],
        ids=["get", "blank-line", "post", "chunked"],
    )
    @pytest.mark.parametrize("piece", [1, 1000])
    async def test_idle_connections_are_kept(
        self, monkeypatch: pytest.MonkeyPatch, request_: bytes, piece: int
    ) -> None:
        """However the request before was cut into packets, and whatever it had as a body."""
        monkeypatch.setattr(listener, "HEAD_SECONDS", 0.1)
        async with gateway() as g:
            reader, writer = await asyncio.open_connection("127.0.0.1", g.port)
            for _ in range(2):
                for start in range(0, len(request_), piece):
                    writer.write(request_[start : start + piece])
                    await asyncio.sleep(0)
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 20")
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.2):
                        while data := await reader.read(100):
                            assert data.startswith(b"{")
                        pytest.fail("closed")
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
