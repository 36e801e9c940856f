"""Tests of how long `services.gateway.listener` waits for the head of a request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from services.chassis.metrics import Metrics
from services.gateway import application
from services.gateway.gateway_metrics import GatewayMetrics
from services.gateway.listener import HEAD_SECONDS, HttpConnection
from tests.unit.jumping import JumpingLoop

GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /reports HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody"
CHUNKED = (
    b"POST /reports HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"
)


class Client(asyncio.Transport):
    """The other end of a connection: notes what it is answered, and when it is cut."""

    def __init__(self, server: web.Server) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self.answered = b""
        self.cut_at: float | None = None
        self.connection = HttpConnection(
            server, loop=self._loop, access_log_class=application.AccessLog
        )
        self.connection.connection_made(self)

    async def send(self, data: bytes, piece: int) -> None:
        """Let it arrive in pieces of a size, each of which is looked at before the next."""
        for start in range(0, len(data), piece):
            self.connection.data_received(data[start : start + piece])
            await settled()

    @property
    def answers(self) -> int:
        """How many requests were answered well."""
        return self.answered.count(b"HTTP/1.1 20")

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """See `asyncio.Transport`."""
        self.answered += data

    def is_closing(self) -> bool:
        """See `asyncio.Transport`."""
        return self.cut_at is not None

    def close(self) -> None:
        """See `asyncio.Transport`."""
        if self.cut_at is None:
            self.cut_at = self._loop.time()
            self._loop.call_soon(self.connection.connection_lost, None)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """See `asyncio.Transport`: nothing waits here."""


@asynccontextmanager
async def connected() -> AsyncIterator[Client]:
    """Connect to the application, without a socket."""

    async def health(_: web.Request) -> web.StreamResponse:
        return web.json_response({"status": "ok"})

    async def report(request: web.Request) -> web.StreamResponse:
        await request.read()
        return web.Response(status=204)

    made = application.make(
        [web.get("/healthz", health), web.post("/reports", report)],
        duration=GatewayMetrics(Metrics(service="test")).request_duration,
        behind_tls=False,
        body_bytes=1000,
    )
    runner = web.AppRunner(made, shutdown_timeout=0)
    await runner.setup()
    assert runner.server is not None
    client = Client(runner.server)
    yield client
    client.close()
    await runner.cleanup()


async def settled() -> None:
    """Let everything that can run, run; no time passes."""
    for _ in range(10):
        await asyncio.sleep(0)


def now() -> float:
    """What the time is."""
    return asyncio.get_running_loop().time()


async def test_a_slow_head_is_cut() -> None:
    """However steadily it trickles in."""
    async with connected() as client:
        for byte in b"GET / HTTP/1.1\r\nHost: x\r\n":
            await client.send(bytes((byte,)), 1)
            await asyncio.sleep(HEAD_SECONDS / 20)

        assert HEAD_SECONDS == client.cut_at


async def test_a_slow_second_head_is_cut() -> None:
    """Timed from its first byte on, and not from the end of the request before."""
    async with connected() as client:
        await client.send(GET, 1000)
        await asyncio.sleep(3 * HEAD_SECONDS)
        await client.send(GET, 1000)
        await asyncio.sleep(3 * HEAD_SECONDS)
        await client.send(b"GET /", 1000)
        begin = now()
        await asyncio.sleep(3 * HEAD_SECONDS)

        assert 2 == client.answers
        assert begin + HEAD_SECONDS == client.cut_at


@pytest.mark.parametrize("first", [GET, POST, GET * 3], ids=["get", "post", "pipelined"])
@pytest.mark.parametrize("pieces", [1, 2])
async def test_a_second_head_that_came_with_the_first_is_timed(first: bytes, pieces: int) -> None:
    """Its beginning stands behind a whole request."""
    async with connected() as client:
        data = first + b"GET / HTTP/1.1\r\n"
        await client.send(data, -(-len(data) // pieces))
        await asyncio.sleep(3 * HEAD_SECONDS)

        assert first.count(b"\r\n\r\n") == client.answers
        assert HEAD_SECONDS == client.cut_at


@pytest.mark.parametrize(
    "request_", [GET, b"\r\n" + GET, POST, CHUNKED], ids=["get", "blank-line", "post", "chunked"]
)
@pytest.mark.parametrize("piece", [1, 1000])
async def test_idle_connections_are_kept(request_: bytes, piece: int) -> None:
    """However the request before was cut into packets, and whatever it had as a body."""
    async with connected() as client:
        for count in range(1, 3):
            await client.send(request_, piece)
            assert count == client.answers
            await asyncio.sleep(3 * HEAD_SECONDS)

        assert client.cut_at is None


@pytest.mark.parametrize("begun", [b"", b"GET /hea"], ids=["nothing", "something"])
async def test_a_head_that_waited_for_this_process_is_not_cut(begun: bytes) -> None:
    """It is not the client that was slow when it is read just as the time is over."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, JumpingLoop)
    async with connected() as client:
        await client.send(begun, 1000)
        # The loop reads what has arrived, and then looks at the timers, in one go.
        loop.call_soon(client.connection.data_received, GET.removeprefix(begun))
        loop.jump(HEAD_SECONDS)
        await settled()
        await asyncio.sleep(3 * HEAD_SECONDS)

        assert 1 == client.answers
        assert client.cut_at is None


async def test_a_head_that_follows_one_that_waited_is_timed() -> None:
    """The time of the first is not the second's."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, JumpingLoop)
    async with connected() as client:
        loop.call_soon(client.connection.data_received, GET + b"GET /")
        loop.jump(HEAD_SECONDS)
        await settled()
        begin = now()
        await asyncio.sleep(3 * HEAD_SECONDS)

        assert 1 == client.answers
        assert begin + HEAD_SECONDS == client.cut_at
