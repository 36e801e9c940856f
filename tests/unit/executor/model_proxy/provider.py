"""A provider that the test scripts, and an agent that asks it through the proxy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson
from aiohttp import web

from services.chassis.metrics import Metrics
from services.executor.model_proxy.proxy import Access

MODEL = "claude-opus-5-5"
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


def event(kind: str, **members: Any) -> bytes:
    """Return one event of a stream."""
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), orjson.dumps({"type": kind, **members}))


def start(**usage: Any) -> bytes:
    """Return the event that begins a message."""
    message = {"id": "m", "type": "message", "model": MODEL, "usage": usage}
    return event("message_start", message=message)


def delta(**usage: Any) -> bytes:
    """Return the event that ends a message."""
    return event("message_delta", delta={"stop_reason": "end_turn"}, usage=usage)


WHOLE = {
    "type": "message",
    "model": MODEL,
    "content": [],
    "usage": {"input_tokens": 10, "output_tokens": 20},
}
"""An answer that is not streamed."""


def streaming(*pieces: bytes, end: str = "finish") -> Answer:
    """Return an answer piece by piece, which then finishes, is cut, or says nothing more."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
            await asyncio.sleep(0)
        if end == "cut":
            await asyncio.sleep(0.02)
            assert request.transport is not None
            request.transport.abort()
        elif end == "silent":
            await asyncio.get_running_loop().create_future()
        return response

    return answer


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as the provider saw it."""

    path: str
    headers: Mapping[str, str]
    body: bytes


class Provider:
    """Answers as the test says."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.begun = asyncio.Event()
        """Set when a request has come."""
        self.aborted = asyncio.Event()
        """Set when nobody waited for an answer."""
        self.answer: Answer = streaming(start(input_tokens=10), delta(output_tokens=20))
        self.url = ""

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[Provider]:
        """Serve while inside."""
        server = web.Server(self._serve, handler_cancellation=True, access_log=None)
        runner = web.ServerRunner(server, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield self
        await runner.cleanup()

    async def _serve(self, request: Any) -> web.StreamResponse:
        if request.method == "HEAD":
            return web.Response(status=404)
        self.begun.set()
        try:
            request._client_max_size = 1 << 30
            body = await request.read()
            self.asked.append(Asked(request.path_qs, dict(request.headers), body))
            return await self.answer(request)
        except (asyncio.CancelledError, ConnectionError):
            self.aborted.set()
            raise


class Agent:
    """Asks as the CLI does, by what its environment says."""

    def __init__(self, access: Access) -> None:
        environment = access.environment
        path = environment.get("ANTHROPIC_UNIX_SOCKET")
        connector = aiohttp.UnixConnector(path) if path else aiohttp.TCPConnector()
        self.session = aiohttp.ClientSession(connector=connector, auto_decompress=False)
        self.url = environment["ANTHROPIC_BASE_URL"]
        token = environment.get("ANTHROPIC_AUTH_TOKEN")
        self.headers = (
            {"Authorization": f"Bearer {token}"}
            if token
            else {"x-api-key": environment["ANTHROPIC_API_KEY"]}
        )

    def post(self, body: Any = None, **changed: Any) -> Any:
        """Ask for a message; the response is a context manager."""
        content = orjson.dumps({"stream": True}) if body is None else body
        headers = {**self.headers, **changed.pop("headers", {})}
        path = changed.pop("path", "/v1/messages?beta=true")
        return self.session.post(self.url + path, data=content, headers=headers, **changed)

    async def say(self) -> bytes:
        """Ask once, and return the whole answer."""
        async with self.post() as response:
            assert 200 == response.status
            content: bytes = await response.read()
            return content


def counted(metrics: Metrics, name: str, **labels: str) -> float:
    """Return a figure of a metric."""
    return metrics.registry.get_sample_value(name, labels) or 0.0


def outcome(metrics: Metrics, name: str) -> float:
    """Return how many requests ended in one way."""
    return counted(metrics, "moorline_model_requests_total", outcome=name)
