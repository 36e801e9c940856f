"""The listening socket and the HTTP connections that come from it.

Adds to aiohttp what it lacks: a limit for the time a request's head may take, an
end for clients that stop answering, word of a connection that can be written to
again or is gone. Does not know routes.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger
from aiohttp.http import HttpProcessingError

log = logging.getLogger(__name__)

HEAD_SECONDS = 10.0
"""How long the head of a request may take from its first byte; slower ones are cut."""
KEEPALIVE_SECONDS = 620.0
"""How long an idle connection is kept: longer than load balancers do, which is 600 s."""
SEND_BUFFER = 64 * 1024
"""Bytes the kernel may hold for a client that does not read; it doubles them."""
USER_TIMEOUT_MS = 30_000
"""After this long without an acknowledgement the kernel gives a client up."""
HIGH_WATER = 128 * 1024
"""A connection that holds more unsent bytes counts as one whose client does not read."""
SERVER = "moorline"
"""Header `Server` of every answer."""
_BACKLOG = 1024
# Also ends a body in chunks.
_HEAD_END = b"\r\n\r\n"
_FAULTS_OF_CLIENTS = (HttpProcessingError, web.RequestPayloadError, ConnectionError)


class HttpConnection(web.RequestHandler):
    """One connection of a client, HTTP or WebSocket.

    Attributes:
        ignores: True to throw away what the client sends from now on.
        on_lost: Called when the client is gone.
        on_writable: Called when little enough waits to be sent again.
    """

    __slots__ = ("_course", "_head_timer", "_in_request", "ignores", "on_lost", "on_writable")

    def __init__(self, server: web.Server, **options: Any) -> None:
        super().__init__(server, **options)
        self._head_timer: asyncio.TimerHandle | None = None
        self._in_request = False
        self._course = _Course()
        self.ignores = False
        self.on_lost: Callable[[], None] | None = None
        self.on_writable: Callable[[], None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        super().connection_made(transport)
        if isinstance(transport, asyncio.Transport):
            transport.set_write_buffer_limits(high=HIGH_WATER)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        """Called by the event loop."""
        if self.ignores:
            return
        # aiohttp calls this too, without data, to go on with what it holds.
        if data and not self._in_request and self._head_timer is None:
            self._expect_head()
        self._course.received(data)
        super().data_received(data)

    def request_began(self) -> None:
        """Note that a head is complete; called first by the application."""
        self._in_request = True
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def request_ended(self, body_bytes: int) -> None:
        """Note that the application has answered.

        Args:
            body_bytes: What the request said of its body; 0 when it has none, or
                did not say.
        """
        self._in_request = False
        if not self._course.request_ended(body_bytes) and self._head_timer is None:
            self._expect_head()

    def resume_writing(self) -> None:
        """Called by the event loop when little enough waits to be sent."""
        super().resume_writing()
        if self.on_writable is not None:
            self.on_writable()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Called by the event loop."""
        self.request_began()
        super().connection_lost(exc)
        if self.on_lost is not None:
            self.on_lost()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is not HTTP, and clients that are gone, without aiohttp's traceback."""
        if not isinstance(exc, _FAULTS_OF_CLIENTS):
            return super().handle_error(request, status, exc, message)
        self.keep_alive(False)
        return web.Response(
            status=400,
            text="This is not an HTTP request.\n",
            headers={"Server": SERVER, "X-Content-Type-Options": "nosniff"},
        )

    def log_exception(self, *args: Any, **options: Any) -> None:
        """Called by aiohttp with what it takes for bugs; what clients do wrong is none."""
        if not isinstance(options.get("exc_info"), _FAULTS_OF_CLIENTS):
            super().log_exception(*args, **options)

    def _expect_head(self) -> None:
        self._head_timer = self._loop.call_later(HEAD_SECONDS, self._too_slow)

    def _too_slow(self) -> None:
        self._head_timer = None
        # After a stall of this process the rest of a head is read in the same go: such a
        # request waits for its turn here, and no longer for its client.
        if not self._messages:
            self.force_close()


class _Course:
    """Tells whether anything follows a whole request: aiohttp's parser does not say."""

    __slots__ = ("_head", "_known", "_received", "_tail")

    def __init__(self) -> None:
        # Of the present request: its bytes so far, those of its head once that is
        # complete, and whether they were counted from its first on.
        self._received = 0
        self._head = 0
        self._known = True
        self._tail = b""

    def received(self, data: bytes) -> None:
        """Note what came."""
        if self._known and not self._received:
            # Blank lines may stand before a request.
            data = data.lstrip(b"\r\n")
            self._tail = b"" if data else self._tail
        if not self._head:
            end = (self._tail + data).find(_HEAD_END)
            if end >= 0:
                self._head = self._received - len(self._tail) + end + len(_HEAD_END)
        self._received += len(data)
        self._tail = (self._tail + data[-4:])[-4:]

    def request_ended(self, body_bytes: int) -> bool:
        """Begin with the next request; False when some of it has come already."""
        whole = self._tail == _HEAD_END or (
            self._known and self._received <= self._head + body_bytes
        )
        self._received = self._head = 0
        self._known = whole
        return whole


@asynccontextmanager
async def listen(
    address: str, runner: web.AppRunner, access_logger: type[AbstractAccessLogger]
) -> AsyncIterator[int]:
    """Accept connections while inside; those accepted are not closed at its end.

    Args:
        address: `host:port`; port 0 takes any.
        runner: Set up already; answers requests, and its cleanup ends connections.
        access_logger: Logs each answer.

    Yields:
        The port.

    Raises:
        OSError: The address cannot be listened on.
    """
    loop = asyncio.get_running_loop()
    server = runner.server
    if server is None:
        raise RuntimeError("the runner is not set up")

    def accept() -> HttpConnection:
        return HttpConnection(
            server,
            loop=loop,
            keepalive_timeout=KEEPALIVE_SECONDS,
            # No client of ours compresses, and a few bytes could become a great many.
            auto_decompress=False,
            access_log_class=access_logger,
        )

    listening = bind(address)
    acceptor = await loop.create_server(accept, sock=listening, backlog=_BACKLOG)
    try:
        yield listening.getsockname()[1]
    finally:
        acceptor.close()


def bind(address: str) -> socket.socket:
    """Return a socket bound to `host:port`; accepted connections inherit its options.

    Raises:
        OSError: The address cannot be listened on.
    """
    host, _, port = address.rpartition(":")
    found = socket.getaddrinfo(
        host.strip("[]") or None, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    family, kind, protocol, _, target = found[0]
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
        listening.bind(target)
        listening.setblocking(False)
    except OSError:
        listening.close()
        raise
    return listening
