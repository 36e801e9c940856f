"""Tests of `services.executor.model_proxy.forwarding`: what passes, and what not."""

from __future__ import annotations

import asyncio
import gzip
import io
import logging
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web

from services.chassis.metrics import Metrics
from services.executor.agent_process import Budget
from services.executor.backend import Link, View
from services.executor.model_proxy import forwarding
from services.executor.model_proxy.meter import Meter
from services.executor.model_proxy.proxy import SOCKET, ModelProxy
from services.executor.place import Place
from tests.unit.executor.fakes import until
from tests.unit.executor.model_proxy.conftest import make_proxy, write
from tests.unit.executor.model_proxy.provider import (
    WHOLE,
    Agent,
    Provider,
    counted,
    delta,
    event,
    outcome,
    start,
    streaming,
)


async def test_request_and_answer_pass_untouched(agent: Agent, provider: Provider) -> None:
    """The credential is ours, the rest is theirs."""
    content = event("content_block_delta", text="한글 \\n") * 50
    provider.answer = streaming(start(input_tokens=1), content, delta(output_tokens=2))
    body = orjson.dumps({"stream": True, "messages": ["x" * 300_000]})
    async with agent.post(body, headers={"anthropic-beta": "b", "x-api-key": "theirs"}) as response:
        answer = await response.read()
    (asked,) = provider.asked

    assert start(input_tokens=1) + content + delta(output_tokens=2) == answer
    assert "text/event-stream; charset=utf-8" == response.headers["Content-Type"]
    assert body == asked.body
    assert "/v1/messages?beta=true" == asked.path
    assert ("sk-operator", "b") == (asked.headers["x-api-key"], asked.headers["anthropic-beta"])
    assert "Authorization" not in asked.headers


async def test_answer_streams(agent: Agent, provider: Provider, meter: Meter) -> None:
    """A piece arrives while the next one is not there, and counts at once."""
    provider.answer = streaming(start(input_tokens=7), end="silent")
    async with agent.post() as response:
        piece = await response.content.readany()

        assert start(input_tokens=7) == piece
        assert 7 == meter.usage.input_tokens


async def test_request_streams(agent: Agent, provider: Provider) -> None:
    """It begins to leave before it is complete, and without a length."""
    more = asyncio.Event()

    async def body() -> Any:
        yield b'{"stream": tr'
        await provider.begun.wait()
        more.set()
        yield b"ue}"

    async with agent.post(body()) as response:
        await response.read()

    assert more.is_set()
    assert b'{"stream": true}' == provider.asked[0].body


async def test_key_may_go_as_a_bearer(
    provider: Provider, key_file: Path, metrics: Metrics, place: Place, view: View
) -> None:
    """As gateways want it; and a gateway may have a path of its own."""
    async with make_proxy(f"{provider.url}/gateway/", key_file, metrics, bearer=True) as proxy:
        access = await proxy.admit(proxy.meter(), link=Link.TCP, place=place, view=view)
        agent = Agent(access)
        async with agent.session:
            await agent.say()
    (asked,) = provider.asked

    assert "Bearer sk-operator" == asked.headers["Authorization"]
    assert "x-api-key" not in asked.headers
    assert "/gateway/v1/messages?beta=true" == asked.path


async def test_new_key_is_used_at_once(agent: Agent, provider: Provider, key_file: Path) -> None:
    """No restart, and an agent that runs goes on."""
    await agent.say()
    write(key_file, "sk-second")
    await agent.say()

    assert ["sk-operator", "sk-second"] == [one.headers["x-api-key"] for one in provider.asked]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("HEAD", "/", 200),
        ("GET", "/", 404),
        ("GET", "/v1/messages", 404),
        ("POST", "/v1/messages/count_tokens", 404),
        ("POST", "/v1/messages/../models", 404),
        ("GET", "/v1/models", 404),
        ("POST", "/v1/organizations", 404),
        ("CONNECT", "/", 404),
    ],
)
async def test_nothing_but_the_messages_api_is_reached(
    agent: Agent, provider: Provider, method: str, path: str, status: int
) -> None:
    """Whoever looks whether somebody is there is answered here."""
    async with agent.session.request(method, agent.url + path, headers=agent.headers) as response:
        assert status == response.status

    assert [] == provider.asked


@pytest.mark.parametrize("status", [400, 401, 403, 413, 429, 500, 529, 302])
async def test_what_the_provider_says_passes(
    agent: Agent, provider: Provider, meter: Meter, status: int
) -> None:
    """Its failures are for the agent to judge; a redirection is not followed with our key."""

    async def refuse(request: web.Request) -> web.StreamResponse:
        headers = {"retry-after": "7", "x-should-retry": "false", "location": "/elsewhere"}
        return web.json_response({"error": "why"}, status=status, headers=headers)

    provider.answer = refuse
    async with agent.post(allow_redirects=False) as response:
        answer = await response.json()

    assert (status, {"error": "why"}) == (response.status, answer)
    assert ("7", "false") == (response.headers["retry-after"], response.headers["x-should-retry"])
    assert 0 == meter.usage.cost_usd_micros
    assert 1 == len(provider.asked)


async def test_whole_answer_is_counted(agent: Agent, provider: Provider, meter: Meter) -> None:
    """The CLI asks for one when streams do not work."""

    async def whole(request: web.Request) -> web.StreamResponse:
        return web.json_response(WHOLE)

    provider.answer = whole
    async with agent.post(b"{}") as response:
        answer = await response.json()

    assert WHOLE == answer
    assert (10, 20, 440) == (
        meter.usage.input_tokens,
        meter.usage.output_tokens,
        meter.usage.cost_usd_micros,
    )


async def test_answer_that_is_broken_off_counts_for_the_budget(
    agent: Agent, provider: Provider, meter: Meter
) -> None:
    """By an estimate, because the provider tells what was written at its end only."""
    written = event("content_block_delta", delta={"type": "text_delta", "text": "word " * 200})
    provider.answer = streaming(start(output_tokens=1), written, end="silent")
    meter.begin(Budget(turn=6_000))
    async with agent.post() as response:
        await response.content.readuntil(b'word "}}\n\n')
    await asyncio.wait_for(provider.aborted.wait(), 15)
    async with agent.post() as response:
        assert 400 == response.status

    assert "turn" == meter.exhausted
    assert 1 == meter.usage.output_tokens


# The answer has to begin before its silence counts.
@pytest.mark.parametrize(("end", "silence"), [("cut", 30), ("silent", 2)])
async def test_stream_that_breaks_is_cut(
    agent: Agent, provider: Provider, meter: Meter, metrics: Metrics, end: str
) -> None:
    """So that the agent asks again; what was told until then counts."""
    provider.answer = streaming(start(input_tokens=7, output_tokens=1), end=end)
    with pytest.raises(aiohttp.ClientPayloadError):
        async with asyncio.timeout(15), agent.post() as response:
            await response.read()

    assert (7, 1) == (meter.usage.input_tokens, meter.usage.output_tokens)
    assert 1 == outcome(metrics, "cut")


@pytest.mark.parametrize("began", [True, False])
async def test_agent_that_hangs_up_aborts_the_request(
    agent: Agent, provider: Provider, metrics: Metrics, began: bool
) -> None:
    """Whether the answer has begun or not, the provider is told to stop."""

    async def never(request: web.Request) -> web.StreamResponse:
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    provider.answer = streaming(start(input_tokens=1), end="silent") if began else never
    asking = asyncio.ensure_future(agent.say())
    await provider.begun.wait()
    await asyncio.sleep(0.05)
    asking.cancel()
    await asyncio.wait_for(provider.aborted.wait(), 15)
    await until(lambda: outcome(metrics, "aborted"))

    assert 1 == outcome(metrics, "aborted")


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        (Budget(turn=0), "The turn's budget is spent."),
        (Budget(agent=0), "The agent's budget is spent."),
        (Budget(month=0), "The user's budget for this month is spent."),
    ],
)
async def test_spent_budget_is_told_and_not_tried_again(
    agent: Agent, provider: Provider, meter: Meter, metrics: Metrics, budget: Budget, words: str
) -> None:
    """By name, and the provider is not asked."""
    meter.begin(budget)
    async with agent.post() as response:
        answer = await response.json()

    assert (400, "false") == (response.status, response.headers["x-should-retry"])
    assert answer["error"]["message"].startswith(words)
    assert [] == provider.asked
    assert 1 == outcome(metrics, "budget")


@pytest.mark.parametrize(
    "lines",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5",
        b"Content-Length: 5\r\nTransfer-Encoding : chunked",
        b"Content-Length: 5\r\nContent-Length: 6",
        b"Content-Length: 5, 5",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    ],
)
async def test_request_that_may_end_in_two_places_is_refused(
    proxy: ModelProxy, place: Place, view: View, provider: Provider, lines: bytes
) -> None:
    """What one side takes for the end and the other does not would be a request of its own.

    Connections to the provider are everybody's.
    """
    await proxy.admit(proxy.meter(), link=Link.SOCKET, place=place, view=view)
    reader, writer = await asyncio.open_unix_connection(str(place.run / SOCKET))
    body = b"1e\r\nhelloPOST /v1/x HTTP/1.1\r\nHost\r\n0\r\n\r\n"
    writer.write(b"POST /v1/messages HTTP/1.1\r\nHost: x\r\n%b\r\n\r\n%b" % (lines, body))
    status = await reader.readuntil(b"\r\n")
    writer.close()
    await writer.wait_closed()

    assert b"400" == status.split()[1]
    assert [] == provider.asked


@pytest.mark.parametrize("told", [True, False])
async def test_too_large_request_is_refused(
    agent: Agent, provider: Provider, monkeypatch: pytest.MonkeyPatch, told: bool
) -> None:
    """Whether its size is told or found out."""
    monkeypatch.setattr(forwarding, "_BODY_LIMIT", 1 << 20)

    async def body() -> Any:
        for _ in range(20):
            yield b"x" * 65536

    async with agent.post(io.BytesIO(b"x" * (1 << 21)) if told else body()) as response:
        assert 413 == response.status
    assert [] == provider.asked


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b'{"tools":[{"type":"web_search_20250305"}]}', {}),
        (
            gzip.compress(b'{"tools":[{"type":"web_search_20250305"}]}'),
            {"Content-Encoding": "gzip"},
        ),
    ],
)
async def test_provider_does_not_reach_other_machines(
    agent: Agent, provider: Provider, metrics: Metrics, body: bytes, headers: dict[str, str]
) -> None:
    """For an agent that has no network; it never gets the whole request."""
    async with agent.post(body, headers=headers) as response:
        assert (400, "false") == (response.status, response.headers["x-should-retry"])

    assert [] == provider.asked
    assert 1 == outcome(metrics, "refused_here")


async def test_metrics_name_nobody(
    agent: Agent, provider: Provider, metrics: Metrics, meter: Meter
) -> None:
    """Tokens by kind, cost, and how long it took until an answer began."""
    provider.answer = streaming(
        start(input_tokens=10, cache_read_input_tokens=5, cache_creation_input_tokens=2),
        delta(output_tokens=20),
    )
    await agent.say()
    tokens = {
        kind: counted(metrics, "moorline_model_tokens_total", kind=kind)
        for kind in ("read", "written", "cache_read", "cache_written")
    }

    assert {"read": 10, "written": 20, "cache_read": 5, "cache_written": 2} == tokens
    assert 451 == counted(metrics, "moorline_model_cost_usd_micros_total")
    assert 1 == counted(metrics, "moorline_model_answer_begins_seconds_count")
    assert 1 == outcome(metrics, "answered")
    assert 451 == meter.usage.cost_usd_micros


async def test_nothing_that_is_said_is_logged(
    agent: Agent, provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither words nor keys nor tokens, whatever goes wrong."""
    caplog.set_level(logging.DEBUG)
    for provider.answer in (streaming(b"SECRET"), streaming(b"SECRET", end="cut")):
        try:
            async with agent.post(b'"SECRET"', path="/v1/messages?SECRET") as response:
                await response.read()
        except aiohttp.ClientError:
            pass
    said = [record.getMessage() for record in caplog.records if record.name.startswith("services")]
    everything = " ".join(map(str, (record.__dict__ for record in caplog.records)))

    assert [] == said
    assert "SECRET" not in everything
    assert "sk-operator" not in everything
    assert agent.headers["Authorization"] not in everything
