"""Carries the frames of one connection over aiohttp's WebSocket.

aiohttp upgrades and reads. Writing is done here, straight to the transport, so
that it never waits and costs no task. Does not know what frames mean.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any, Protocol

from aiohttp import WSMsgType, web

from services.gateway.closing import reason_bytes
from services.gateway.listener import HttpConnection

SUBPROTOCOL = "moorline.v1"
"""Name and version of the protocol, as clients ask for it."""
CLOSE_SECONDS = 2.0
"""How long a client has to answer a close frame before it is cut."""
SLOW_CLOSE_SECONDS = 10.0
"""The same for one that has not read: it may be asleep, and should learn why on waking."""
IGNORED_FRAMES = 100
"""How many frames of a client that was closed are looked at; more are thrown away unread."""
_TEXT, _BINARY, _CLOSE, _PONG = 0x81, 0x82, 0x88, 0x8A
_ABNORMAL = 1006
_NO_CODE = 1005


class Receiver(Protocol):
    """What takes a client's messages."""

    def receive(self, payload: bytes, *, binary: bool) -> None:
        """Take a message."""

    def pinged(self) -> bool:
        """Called for each ping and pong; False when it is not to be answered."""

    def violated(self, reason: str) -> None:
        """Called once when what came was not WebSocket, or was too large."""

    def lost(self, code: int) -> None:
        """Called once when the client is gone, with its close code or 1006."""

    def resumed(self) -> None:
        """Called when the socket is writable again."""


class WebSocket:
    """One upgraded connection.

    Args:
        max_bytes: Largest message from the client.
    """

    __slots__ = ("_gone", "_http", "_receiver", "_response", "_shut", "_transport")

    def __init__(self, *, max_bytes: int) -> None:
        self._response = _Response(self._violated, max_bytes)
        self._http: HttpConnection | None = None
        self._transport: asyncio.Transport | None = None
        self._receiver: Receiver | None = None
        self._shut = False
        self._gone = asyncio.Event()

    @property
    def response(self) -> web.StreamResponse:
        """What the request's handler returns."""
        return self._response

    async def upgrade(self, request: web.Request) -> None:
        """Answer the client with 101. The request was checked with `can_upgrade`.

        Raises:
            ConnectionError: The client is gone.
        """
        http = request.protocol
        if not isinstance(http, HttpConnection):
            raise TypeError(type(http))
        self._http = http
        self._transport = request.transport
        http.on_lost = self._gone.set
        await self._response.prepare(request)

    async def run(self, receiver: Receiver) -> None:
        """Give a receiver the client's messages until the connection is over."""
        self._receiver = receiver
        if self._http is not None:
            self._http.on_writable = receiver.resumed
        code = _ABNORMAL
        try:
            code = await self._read(receiver)
        finally:
            receiver.lost(code)
        if self._transport is not None:
            self._transport.close()

    async def _read(self, receiver: Receiver) -> int:
        # Frames that are read to find the answer to a close among them.
        ignored = 0
        while ignored < IGNORED_FRAMES:
            ignored += self._shut
            # No time limit: a silent client is alive for as long as TCP says so.
            message: Any = await self._response.receive()
            match message.type:
                case WSMsgType.TEXT:
                    receiver.receive(message.data, binary=False)
                case WSMsgType.BINARY:
                    receiver.receive(message.data, binary=True)
                case WSMsgType.PING:
                    # One that cannot be answered at once never is: it would pile up.
                    if receiver.pinged() and self.writable():
                        self._write(_PONG, message.data)
                case WSMsgType.PONG:
                    receiver.pinged()
                case WSMsgType.CLOSE:
                    self._answer_close(message.data)
                    return message.data or _NO_CODE
                case WSMsgType.ERROR:
                    # Read on and drop it, so that the close frame is not lost in a reset.
                    await self._wait_gone()
                    return _ABNORMAL
                case _:
                    return _ABNORMAL
        # It does not look as if an answer was to come, and looking costs.
        if self._http is not None and self._transport is not None:
            self._http.ignores = True
            # It may have been paused until more is taken from the reader.
            self._transport.resume_reading()
        await self._wait_gone()
        return _ABNORMAL

    async def _wait_gone(self) -> None:
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._gone.wait()
        except TimeoutError:
            return

    # `connection.Socket`

    def send(self, payload: bytes, *, binary: bool) -> None:
        """See `Socket`."""
        if not self._shut:
            self._write(_BINARY if binary else _TEXT, payload)

    def writable(self) -> bool:
        """See `Socket`."""
        return self._http is not None and not self._http.writing_paused

    def buffered(self) -> int:
        """See `Socket`."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def shut(self, code: int, reason: str) -> None:
        """See `Socket`."""
        if self._shut:
            return
        self._shut = True
        self._write(_CLOSE, struct.pack(">H", code) + reason_bytes(reason))
        if self._transport is not None:
            patience = CLOSE_SECONDS if self.writable() else SLOW_CLOSE_SECONDS
            asyncio.get_running_loop().call_later(patience, _cut, self._transport)

    def _answer_close(self, code: int) -> None:
        if not self._shut:
            self._shut = True
            self._write(_CLOSE, struct.pack(">H", code) if code else b"")

    def _violated(self, reason: str) -> None:
        if self._receiver is not None:
            self._receiver.violated(reason)

    def _write(self, first: int, payload: bytes) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        length = len(payload)
        if length < 126:
            header = bytes((first, length))
        elif length < 65536:
            header = struct.pack(">BBH", first, 126, length)
        else:
            header = struct.pack(">BBQ", first, 127, length)
        transport.write(header + payload)


def _cut(transport: asyncio.Transport) -> None:
    """End a connection whose client has not answered the close."""
    if not transport.is_closing():
        # Without waiting for it to read what the kernel still holds for it.
        transport.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
    transport.abort()


def can_upgrade(request: web.Request) -> bool:
    """True when a request asks for a WebSocket in a way that can be answered."""
    return _Response(lambda _: None, 1).can_prepare(request).ok


class _Response(web.WebSocketResponse):
    """Reads for a `WebSocket`; never writes by itself."""

    def __init__(self, violated: Any, max_bytes: int) -> None:
        super().__init__(
            protocols=(SUBPROTOCOL,),
            # It refuses a frame of exactly this size, too.
            max_msg_size=max_bytes + 1,
            compress=False,
            autoping=False,
            autoclose=False,
            decode_text=False,
        )
        self._violated = violated

    async def close(self, *, code: int = 1000, message: bytes = b"", drain: bool = True) -> bool:
        """Called by aiohttp when the client broke the protocol, left, or was answered.

        Its own codes and frames never go out: `WebSocket` closes.
        """
        del message, drain
        if code == 1009:
            self._violated("the message is too large")
        elif code not in (1000, 1001, 1006):
            self._violated("this is not WebSocket as RFC 6455 has it")
        return True
