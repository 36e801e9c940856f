"""Tests of `services.executor.model_proxy.upstream`, through the proxy: a provider with faults."""

from __future__ import annotations

import asyncio
import gzip
import socket
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from services.chassis.metrics import Metrics
from services.executor.backend import Link, View
from services.executor.model_proxy import upstream
from services.executor.model_proxy.meter import Meter
from services.executor.place import Place
from tests.unit.executor.model_proxy.conftest import make_proxy
from tests.unit.executor.model_proxy.provider import (
    WHOLE,
    Agent,
    Answer,
    Provider,
    delta,
    outcome,
    start,
)


def packed(content: bytes, coding: str) -> Answer:
    """Return an answer that is compressed, or says so."""

    async def answer(request: web.Request) -> web.StreamResponse:
        headers = {"Content-Encoding": coding, "Content-Type": "text/event-stream"}
        return web.Response(body=content, headers=headers)

    return answer


async def test_compressed_answer_is_counted(agent: Agent, provider: Provider, meter: Meter) -> None:
    """Nobody asked for it; the agent gets what it asked for."""
    stream = start(input_tokens=7) + delta(output_tokens=20)
    provider.answer = packed(gzip.compress(stream), "gzip")
    async with agent.post() as response:
        answer = await response.read()

    assert stream == answer
    assert "Content-Encoding" not in response.headers
    assert (7, 20) == (meter.usage.input_tokens, meter.usage.output_tokens)


async def test_answer_that_cannot_be_counted_does_not_pass(
    agent: Agent, provider: Provider, metrics: Metrics
) -> None:
    """It would have no budget; and to ask again would be of no use."""
    provider.answer = packed(b"x", "br")
    async with agent.post() as response:
        told = await response.json()

    assert (400, "false") == (response.status, response.headers["x-should-retry"])
    assert "compressed by br" in told["error"]["message"]
    assert 1 == outcome(metrics, "unreadable")


async def test_compressed_answer_that_is_broken_is_cut(agent: Agent, provider: Provider) -> None:
    """As any that breaks."""
    provider.answer = packed(gzip.compress(start(input_tokens=7))[:-9], "gzip")
    with pytest.raises(aiohttp.ClientPayloadError):
        async with agent.post() as response:
            await response.read()


@pytest.mark.parametrize("silence", [2])
async def test_silence_before_the_answer_is_told(
    agent: Agent, provider: Provider, metrics: Metrics
) -> None:
    """By a status that the agent tries again after; the request is given up."""

    async def never(request: web.Request) -> web.StreamResponse:
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    provider.answer = never
    async with asyncio.timeout(15), agent.post() as response:
        assert 504 == response.status
        assert "true" == response.headers["x-should-retry"]
    await asyncio.wait_for(provider.aborted.wait(), 15)

    assert 1 == outcome(metrics, "silent")


@pytest.mark.parametrize("silence", [0.3])
async def test_whole_answer_may_take_longer(agent: Agent, provider: Provider) -> None:
    """Nothing of it is told before all of it is there."""

    async def slow(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(0.5)
        return web.json_response(WHOLE)

    provider.answer = slow
    async with agent.post(b'{"stream": false, "text": "\\"stream\\": true"}') as response:
        assert 200 == response.status


async def test_provider_that_is_not_there_hangs_up(
    key_file: Path, metrics: Metrics, place: Place, view: View
) -> None:
    """As it would without us: the agent tries again, and then says that nobody is there."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        async with make_proxy(url, key_file, metrics) as proxy:
            access = await proxy.admit(proxy.meter(), link=Link.SOCKET, place=place, view=view)
            agent = Agent(access)
            async with agent.session:
                with pytest.raises(aiohttp.ServerDisconnectedError):
                    await agent.say()

    assert 1 == outcome(metrics, "unreachable")


async def test_provider_that_hangs_up_is_unreachable(
    agent: Agent, provider: Provider, metrics: Metrics
) -> None:
    """Before a word of an answer."""

    async def hang_up(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    provider.answer = hang_up
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await agent.say()

    assert 1 == outcome(metrics, "unreachable")


async def test_upstream_that_is_not_open_reaches_nobody(provider: Provider, key_file: Path) -> None:
    """Neither for a request nor for a look."""
    closed = make_proxy(provider.url, key_file, Metrics(service="executor"))._upstream

    async def body() -> Any:
        yield b""

    with pytest.raises(upstream.UnreachableError):
        async with closed.ask(query="", headers={}, body=body()):
            raise AssertionError
    assert "" != await closed.look()
