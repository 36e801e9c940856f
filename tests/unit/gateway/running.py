"""A whole gateway in this process, before a fake session service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import aiohttp
import orjson

from services.gateway.serving import serve
from services.gateway.settings import Authentication, Settings
from tests.unit.chassis.service import KEY
from tests.unit.gateway.session_api import FakeSession, fake_session

TOKEN = "devtoken-devtoken"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
PROTOCOL = "moorline.v1"


@dataclass(kw_only=True)
class Gateway:
    """A gateway that runs, and a client for it."""

    port: int
    session: FakeSession
    stop: asyncio.Event
    task: asyncio.Task[None]
    client: aiohttp.ClientSession
    sockets: list[Any] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    async def connect(
        self, headers: dict[str, str] | None = None, protocols: tuple[str, ...] = (PROTOCOL,)
    ) -> aiohttp.ClientWebSocketResponse:
        """Open a WebSocket, as the developer unless other headers are given."""
        socket = await self.client.ws_connect(
            f"{self.url}/v1/ws",
            headers=BEARER if headers is None else headers,
            protocols=protocols,
            max_msg_size=0,
        )
        self.sockets.append(socket)
        return socket

    async def refusal(
        self, headers: dict[str, str] | None = None, protocols: tuple[str, ...] = (PROTOCOL,)
    ) -> tuple[int, Any, Any]:
        """Return status, error and headers of a handshake that is refused."""
        handshake = {
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
        }
        if protocols:
            handshake["Sec-WebSocket-Protocol"] = ", ".join(protocols)
        handshake |= BEARER if headers is None else headers
        async with self.client.get(f"{self.url}/v1/ws", headers=handshake) as response:
            return response.status, (await response.json())["error"], response.headers


async def say(socket: aiohttp.ClientWebSocketResponse, **frame: Any) -> None:
    """Send a frame as text."""
    await socket.send_bytes(b"") if not frame else await socket.send_str(
        orjson.dumps(frame).decode()
    )


async def hear(socket: aiohttp.ClientWebSocketResponse) -> Any:
    """Return the next frame."""
    async with asyncio.timeout(15):
        message = await socket.receive()
    assert message.type is aiohttp.WSMsgType.TEXT, message
    return orjson.loads(message.data)


async def close_code(socket: aiohttp.ClientWebSocketResponse) -> int | None:
    """Read until the server closes; with which code."""
    async with asyncio.timeout(15):
        while True:
            message = await socket.receive()
            if message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED):
                return socket.close_code


def settings(**changes: Any) -> Settings:
    """Return settings that suit a test."""
    values: dict[str, Any] = {
        "listen": "127.0.0.1:0",
        "session": "127.0.0.1:1",
        "executor": "127.0.0.1:1",
        "identity_key": KEY,
        "auth": Authentication.DEVELOPMENT,
        "development_token": TOKEN,
        "drain_seconds": timedelta(seconds=2),
    }
    return Settings(**(values | changes))


@asynccontextmanager
async def gateway(*, database_time: int = 0, **changes: Any) -> AsyncIterator[Gateway]:
    """Serve until the block ends."""
    listening: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()
    async with fake_session(time=database_time) as session:
        chosen = settings(**{"session": session.target} | changes)
        task = asyncio.create_task(serve(chosen, stop=stop, on_listening=listening.set_result))
        task.add_done_callback(lambda _: listening.cancel())
        try:
            async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as client:
                try:
                    port = await listening
                except asyncio.CancelledError:
                    await task
                    raise
                yield Gateway(port=port, session=session, stop=stop, task=task, client=client)
        finally:
            stop.set()
            with suppress(asyncio.CancelledError):
                async with asyncio.timeout(15):
                    await task


async def welcomed(
    g: Gateway, headers: dict[str, str] | None = None
) -> tuple[aiohttp.ClientWebSocketResponse, str]:
    """Open a connection and say hello; the user it is for."""
    socket = await g.connect(headers)
    await say(socket, id=1, cancel={})
    return socket, (await hear(socket))["welcome"]["user"]


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
