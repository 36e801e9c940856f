"""Tests of `services.gateway.listener`, over sockets."""

from __future__ import annotations

import asyncio
import socket as sockets

import pytest

from services.gateway import listener
from tests.unit.gateway.running import gateway


class TestHttpConnections:
    """The layer below the routes."""

    async def test_a_head_that_does_not_end_is_cut(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """By the time that `test_slow_heads` knows."""
        monkeypatch.setattr(listener, "HEAD_SECONDS", 0.2)
        async with gateway() as g:
            reader, writer = await asyncio.open_connection("127.0.0.1", g.port)
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n")
            async with asyncio.timeout(15):
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
