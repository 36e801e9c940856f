"""Lets agents reach the model: by a socket in their own folder, or by TCP with a token.

Does not know what they ask, nor what they are.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, cast

from aiohttp import web

from moorline.diagnosis.v1 import diagnosis_pb2
from moorline.errors.v1 import errors_pb2
from services.chassis.failures import Failure
from services.chassis.metrics import Metrics
from services.executor.backend import Link, View
from services.executor.model_proxy import sockets
from services.executor.model_proxy.forwarding import Forwarding, failure
from services.executor.model_proxy.key import Key
from services.executor.model_proxy.meter import Meter
from services.executor.model_proxy.prices import Prices
from services.executor.model_proxy.upstream import Upstream
from services.executor.place import Place

SOCKET = "api.sock"
"""Name of the socket in `View.run`."""
_LOOPBACK = "127.0.0.1"
_CLOSING_SECONDS = 0.1
"""For requests that are being answered when nobody is left to hear."""
_BACKLOG = 64
_ONE_AGENTS, _ALL_AGENTS = 64, 2048
"""Connections at once: an agent has some, and its own programs could open more than this process
may have."""
_Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Access:
    """One process's way to the model.

    Attributes:
        environment: What tells the process about it.
        close: Ends it, with what is still being answered; a second call changes nothing.
    """

    environment: Mapping[str, str]
    close: Callable[[], Awaitable[None]]


class ModelProxy:
    """Lets agents in; an async context manager.

    Args:
        upstream: The provider; opened and closed here.
        key: The provider's key.
        prices: What models cost.
        metrics: Where requests are counted.
    """

    def __init__(self, *, upstream: Upstream, key: Key, prices: Prices, metrics: Metrics) -> None:
        self._upstream = upstream
        self._key = key
        self._prices = prices
        self._forward = Forwarding(upstream=upstream, metrics=metrics)
        self._stack = AsyncExitStack()
        self._lock = asyncio.Lock()
        self._port = 0
        self._tokens: dict[str, _Token] = {}
        self._open: set[_Door] = set()
        # One, so that what a cancelled opening or closing still does to a path is over before
        # the next opening begins: else it would take the new socket away.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sockets")

    async def __aenter__(self) -> Self:
        """Open it."""
        await self._stack.enter_async_context(self._upstream)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End all access."""
        for door in tuple(self._open):
            await door.close()
        await self._stack.aclose()
        await asyncio.to_thread(self._thread.shutdown)

    @property
    def unavailable(self) -> str:
        """Why nobody can be let in, one English sentence; empty when everybody can."""
        return "" if self._key.value else self._key.problem

    def meter(self) -> Meter:
        """Return a new meter, for one workspace."""
        return Meter(prices=self._prices)

    async def admit(self, meter: Meter, *, link: Link, place: Place, view: View) -> Access:
        """Let one process in.

        Args:
            meter: Counts what it consumes.
            link: How it comes.
            place: What its agent has; exists.
            view: Where the process sees it.

        Raises:
            Failure: BACKEND_UNAVAILABLE.
        """
        if self.unavailable:
            raise _unavailable(self.unavailable)
        if link is Link.SOCKET:
            return await self._by_socket(meter, place, view)
        return await self._by_token(meter)

    async def check(self) -> Sequence[diagnosis_pb2.Check]:
        """Look at the key and at the provider, for a diagnosis; takes seconds at most."""
        key = diagnosis_pb2.Check(
            subject=diagnosis_pb2.Check.SUBJECT_KEY,
            state=diagnosis_pb2.Check.STATE_GOOD,
            detail="There is a key; whether the provider takes it shows when an agent asks.",
        )
        if self._key.problem:
            kept = bool(self._key.value)
            key.state = (
                diagnosis_pb2.Check.STATE_WARNING if kept else diagnosis_pb2.Check.STATE_FAILED
            )
            key.detail = self._key.problem + (" The last good key is used." if kept else "")
            key.remedy = (
                "Write the key into a file that only the executor may read, and name it in"
                " MOORLINE_MODEL_KEY_FILE."
            )
        elif self._upstream.refused:
            key.state = diagnosis_pb2.Check.STATE_FAILED
            key.detail = "The provider refused the key when it was used last."
            key.remedy = "Put a valid key into the file; no restart is needed."
        upstream = diagnosis_pb2.Check(
            subject=diagnosis_pb2.Check.SUBJECT_UPSTREAM,
            state=diagnosis_pb2.Check.STATE_GOOD,
            detail="The model provider can be reached.",
        )
        if problem := await self._upstream.look():
            upstream.state = diagnosis_pb2.Check.STATE_FAILED
            upstream.detail = f"The model provider cannot be reached: {problem}."
            upstream.remedy = "Check MOORLINE_MODEL_UPSTREAM and this machine's network."
        return key, upstream

    async def _by_socket(self, meter: Meter, place: Place, view: View) -> Access:
        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            return await self._forward(request, meter)

        loop = asyncio.get_running_loop()
        making = loop.run_in_executor(self._thread, sockets.listen, place.run, SOCKET)
        door = _Door(answer, limit=_ONE_AGENTS)
        try:
            await door.open(sock=await asyncio.shield(making))
        except OSError as error:
            raise _unavailable("Its way to the model cannot be opened.") from error
        except asyncio.CancelledError:
            # The thread goes on, and makes a socket that nobody would close.
            making.add_done_callback(_close_made)
            raise
        self._open.add(door)

        async def close() -> None:
            if door in self._open:
                self._open.discard(door)
                await door.close()
                await loop.run_in_executor(self._thread, sockets.remove, place.run, SOCKET)

        environment = {
            # The host is said to nobody.
            "ANTHROPIC_BASE_URL": "http://localhost",
            "ANTHROPIC_UNIX_SOCKET": f"{view.run}/{SOCKET}",
            "ANTHROPIC_API_KEY": "placeholder",
        }
        return Access(environment, close)

    async def _by_token(self, meter: Meter) -> Access:
        async with self._lock:
            # Nobody can knock before somebody needs it.
            if not self._port:
                door = _Door(self._by_tcp, limit=_ALL_AGENTS)
                self._port = await door.open(host=_LOOPBACK, port=0)
                self._open.add(door)
        name, secret = secrets.token_urlsafe(12), secrets.token_urlsafe(32)
        given = self._tokens[name] = _Token(secret, meter)

        async def close() -> None:
            self._tokens.pop(name, None)
            for transport in given.used:
                transport.abort()

        environment = {
            "ANTHROPIC_BASE_URL": f"http://{_LOOPBACK}:{self._port}",
            "ANTHROPIC_AUTH_TOKEN": f"{name}.{secret}",
        }
        return Access(environment, close)

    async def _by_tcp(self, request: web.BaseRequest) -> web.StreamResponse:
        shown = request.headers.get("Authorization", "").removeprefix("Bearer ")
        name, _, secret = shown.partition(".")
        token = self._tokens.get(name)
        if token is None or not hmac.compare_digest(
            secret.encode(errors="surrogateescape"), token.secret.encode()
        ):
            return failure(401, "authentication_error", "This token lets nobody in.")
        transport = request.transport
        if transport is None:
            return web.Response()
        token.used.add(transport)
        try:
            return await self._forward(request, token.meter)
        finally:
            token.used.discard(transport)


@dataclass(frozen=True, slots=True)
class _Token:
    """What lets one process in, and the connections that it is being answered on."""

    secret: str
    meter: Meter
    used: set[asyncio.Transport] = field(default_factory=set)


class _Door:
    """One listening socket, and those who came in.

    Args:
        answer: Answers a request.
        limit: Connections at once; who comes then is sent away.
    """

    def __init__(self, answer: _Handler, *, limit: int) -> None:
        # Who hangs up wants no answer any more, and shall not pay for it.
        self._server = _Server(
            answer, handler_cancellation=True, access_log=None, auto_decompress=False
        )
        self._limit = limit
        self._listening: asyncio.Server | None = None

    async def open(
        self, *, sock: socket.socket | None = None, host: str = "", port: int = 0
    ) -> int:
        """Listen; return the port, 0 when there is none. The socket is closed when it fails."""
        loop = asyncio.get_running_loop()
        if sock is not None:
            listening = await loop.create_unix_server(
                self._receive, sock=sock, backlog=_BACKLOG, start_serving=False
            )
        else:
            listening = await loop.create_server(self._receive, host, port, start_serving=False)
        try:
            # Apart, so that there is something to close when it is cut short.
            await listening.start_serving()
        except BaseException:
            listening.close()
            raise
        self._listening = listening
        return 0 if sock is not None else int(listening.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Listen no more, and hang up."""
        if self._listening is not None:
            self._listening.close()
        await self._server.shutdown(_CLOSING_SECONDS)

    def _receive(self) -> asyncio.Protocol:
        inside = len(self._server.connections) + len(self._server.coming)
        return _Full() if inside >= self._limit else self._server()


class _Server(web.Server):
    """A server that knows also who is accepted and not yet connected: many may be at once."""

    def __init__(self, answer: _Handler, **options: Any) -> None:
        super().__init__(answer, **options)
        self.coming: set[web.RequestHandler] = set()

    def __call__(self) -> web.RequestHandler:
        handler = super().__call__()
        self.coming.add(handler)
        return handler

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        self.coming.discard(handler)
        super().connection_made(handler, transport)


class _Full(asyncio.Protocol):
    """Sends away whoever comes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast("asyncio.Transport", transport).abort()


def _close_made(making: asyncio.Future[socket.socket]) -> None:
    if not making.cancelled() and making.exception() is None:
        making.result().close()


def _unavailable(why: str) -> Failure:
    return Failure(
        errors_pb2.ERROR_REASON_BACKEND_UNAVAILABLE, f"The model cannot be reached: {why}"
    )
